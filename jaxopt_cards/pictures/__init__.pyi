"""What is public in `jaxopt_cards.pictures`: `__init__` and type checkers read it here."""

from .curves import by_layer, gradient_norms, learning_curves, schedules
from .images import augmentation_sheet, confusion_matrix, misclassified
from .surfaces import contours, heights, paths
from .theme import style
from .values import activation_histograms, sparsity

__all__ = [
    "activation_histograms",
    "augmentation_sheet",
    "by_layer",
    "confusion_matrix",
    "contours",
    "gradient_norms",
    "heights",
    "learning_curves",
    "misclassified",
    "paths",
    "schedules",
    "sparsity",
    "style",
]
