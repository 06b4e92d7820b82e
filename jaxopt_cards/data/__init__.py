"""Data: MNIST, scikit-learn's digits, and the subsets that the chapter's exercises use."""

from jaxopt_cards.data._digits import digits
from jaxopt_cards.data._examples import Examples, Splits, per_class, subset
from jaxopt_cards.data._mnist import mnist

__all__ = ["Examples", "Splits", "digits", "mnist", "per_class", "subset"]
