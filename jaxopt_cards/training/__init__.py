"""Training: one compiled program an epoch, early stopping, checkpoints."""

from jaxopt_cards.training._fit import FitResult, History, evaluate, fit

__all__ = ["FitResult", "History", "evaluate", "fit"]
