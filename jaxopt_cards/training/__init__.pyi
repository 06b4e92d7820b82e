"""What is public in `jaxopt_cards.training`: `__init__` and type checkers read it here."""

from .checkpoints import Checkpointer, Checkpoints
from .classifier import DNNClassifier
from .devices import Placement
from .early_stopping import EarlyStopping
from .evaluation import evaluate
from .many_runs import fit_many
from .monte_carlo import MonteCarlo, monte_carlo_predict
from .online import OnlineResult, fit_online
from .outcome import FitResult, History
from .prediction import predict
from .rates import RateRange, learning_rate_range
from .run import fit
from .search import SearchResult, cross_validate, random_search

__all__ = [
    "Checkpointer",
    "Checkpoints",
    "DNNClassifier",
    "EarlyStopping",
    "FitResult",
    "History",
    "MonteCarlo",
    "OnlineResult",
    "Placement",
    "RateRange",
    "SearchResult",
    "cross_validate",
    "evaluate",
    "fit",
    "fit_many",
    "fit_online",
    "learning_rate_range",
    "monte_carlo_predict",
    "predict",
    "random_search",
]
