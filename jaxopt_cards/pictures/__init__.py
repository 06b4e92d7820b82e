"""Pictures: each function draws into the axes that it is given, and returns them.

Colours are those of Okabe and Ito, which colour-blind people tell apart; lines and markers differ
as well, so that a picture can be read in grey. On a dark background the colours are lighter.
"""

from jaxopt_cards.pictures._curves import by_layer, gradient_norms, learning_curves, schedules
from jaxopt_cards.pictures._images import augmentation_sheet, confusion_matrix, misclassified
from jaxopt_cards.pictures._style import style
from jaxopt_cards.pictures._surfaces import contours, heights, paths
from jaxopt_cards.pictures._values import activation_histograms, sparsity

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
