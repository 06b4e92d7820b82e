"""What is public in `jaxopt_cards.data`: `__init__` and type checkers read it here."""

from .augmentation import augment
from .digit_images import digits
from .examples import Examples, Splits, per_class, subset
from .mnist_files import mnist
from .pairing import corrupted, pairs
from .resizing import resize
from .sentences import corrupted_tokens

__all__ = [
    "Examples",
    "Splits",
    "augment",
    "corrupted",
    "corrupted_tokens",
    "digits",
    "mnist",
    "pairs",
    "per_class",
    "resize",
    "subset",
]
