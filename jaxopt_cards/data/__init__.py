"""Data: MNIST, scikit-learn's digits, subsets, and augmentation."""

from jaxopt_cards.data._augment import augment
from jaxopt_cards.data._digits import digits
from jaxopt_cards.data._examples import Examples, Splits, per_class, subset
from jaxopt_cards.data._mnist import mnist

__all__ = ["Examples", "Splits", "augment", "digits", "mnist", "per_class", "subset"]
