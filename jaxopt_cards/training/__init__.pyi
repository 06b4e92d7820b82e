"""What is public in `jaxopt_cards.training`: `__init__` and type checkers read it here."""

from .checkpoints import Checkpointer
from .classifier import DNNClassifier
from .early_stopping import EarlyStopping
from .many_runs import fit_many
from .online import OnlineResult, fit_online
from .prediction import predict
from .rates import RateRange, learning_rate_range
from .run import FitResult, History, evaluate, fit
from .search import SearchResult, cross_validate, random_search

__all__ = [
    "Checkpointer",
    "DNNClassifier",
    "EarlyStopping",
    "FitResult",
    "History",
    "OnlineResult",
    "RateRange",
    "SearchResult",
    "cross_validate",
    "evaluate",
    "fit",
    "fit_many",
    "fit_online",
    "learning_rate_range",
    "predict",
    "random_search",
]
