"""Data: MNIST, scikit-learn's digits, subsets, pairs, and augmentation."""

from jaxopt_cards.data._augment import augment
from jaxopt_cards.data._digits import digits
from jaxopt_cards.data._examples import Examples, Splits, per_class, subset
from jaxopt_cards.data._mnist import mnist
from jaxopt_cards.data._pairs import corrupted, pairs

__all__ = [
    "Examples",
    "Splits",
    "augment",
    "corrupted",
    "digits",
    "mnist",
    "pairs",
    "per_class",
    "subset",
]
