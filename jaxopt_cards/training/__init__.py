"""Training: compiled epochs and runs, populations, search, checkpoints."""

from typing import TYPE_CHECKING, Any

from jaxopt_cards.training._checkpoints import Checkpointer
from jaxopt_cards.training._early_stopping import EarlyStopping
from jaxopt_cards.training._fit import FitResult, History, evaluate, fit
from jaxopt_cards.training._many import fit_many
from jaxopt_cards.training._online import OnlineResult, fit_online
from jaxopt_cards.training._rates import RateRange, learning_rate_range
from jaxopt_cards.training._report import report
from jaxopt_cards.training._search import SearchResult, cross_validate, random_search

if TYPE_CHECKING:
    from jaxopt_cards.training._classifier import DNNClassifier

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
    "random_search",
    "report",
]


# Type checkers see the import above; at run time only who asks for the estimator needs
# scikit-learn.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name != "DNNClassifier":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from jaxopt_cards.training._classifier import DNNClassifier
        except ModuleNotFoundError as error:
            raise ImportError(
                "DNNClassifier: needs scikit-learn: pip install scikit-learn"
            ) from error
        return DNNClassifier
