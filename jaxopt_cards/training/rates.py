"""The learning rate found by short runs over a range of rates."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Unpack

import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_seed
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NotFiniteError
from jaxopt_cards.training.many_runs import fit_many
from jaxopt_cards.training.settings import BY_EPOCHS, RUN, RunSettings


@dataclasses.dataclass(frozen=True)
class RateRange:
    """What `learning_rate_range` returns.

    Attributes:
        rates: the rates, shape (points,), rising.
        train_loss: for each the mean training loss of the last epoch; NaN where it diverged.
        valid_loss: for each the validation loss at the end; NaN where it diverged.
    """

    rates: np.ndarray
    train_loss: np.ndarray
    valid_loss: np.ndarray

    @property
    def best(self) -> float:
        """The rate with the least validation loss."""
        return float(self.rates[np.nanargmin(self.valid_loss)])

    def plot(self, ax: Any) -> Any:
        """Draws both losses over the rates into axes of Matplotlib, and returns them."""
        ax.semilogx(self.rates, self.train_loss, ".--", color="#56b4e9", label="training")
        ax.semilogx(self.rates, self.valid_loss, "o-", color="#0072b2", label="validation")
        ax.plot(self.best, np.nanmin(self.valid_loss), "o", ms=9, color="#d55e00")
        ax.annotate(
            f"{self.best:.2g}", (self.best, np.nanmin(self.valid_loss)), (0, -14),
            textcoords="offset points", ha="center", color="#d55e00",
        )  # fmt: skip
        ax.margins(y=0.15)
        ax.set(xlabel="learning rate", ylabel="loss")
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
        return ax


@declare(
    settings=RUN | {"epochs": 1},
    refused=BY_EPOCHS | {"seeds": "come from seed", "mesh": "be given as placement=mesh"},
)
def learning_rate_range(
    model: nnx.Module,
    make_tx: Callable[..., optax.GradientTransformation],
    *,
    train: Sequence[Any],
    valid: Sequence[Any],
    low: Annotated[float, "(0, inf)"] = 1e-5,
    high: Annotated[float, "(0, inf)"] = 1.0,
    points: Annotated[int, "[2, inf)"] = 16,
    batch_size: int = 32,
    seed: int = 0,
    side_by_side: int | None = None,
    placement: Any = None,
    **settings: Unpack[RunSettings],
) -> RateRange:
    r"""Trains a model for a short time at many learning rates, as one program.

    All runs start from the same weights and see the same batches, so only the rate differs.

    Args:
        model: the NNX module, not changed.
        make_tx: function of `learning_rate` that makes a transformation: `adam`, or a chain.
        train: pair (x, y).
        valid: pair (x, y).
        low: the first rate.
        high: the last rate, above the first.
        points: number of rates, evenly spaced on a log axis.
        batch_size: int in [1, inf); examples per batch.
        seed: int in [0, inf); seed of the order of the examples, the same in all runs.
        side_by_side: as in `fit_many`.
        placement: as in `fit_many`.
        settings: `epochs` of each run, 1 by default; `patience`, `loss`, `regularizer`, `augment`,
            `plateau`, `trainable`, `evaluated` and `progress` as in `fit`.

    Returns:
        A `RateRange`: `rates`, `train_loss`, `valid_loss`, `best`, and `plot(ax)`.

    Raises:
        ValueError: as in `fit_many`; `low` is not below `high`; fewer than two points.
        FloatingPointError: the loss was not finite at any rate.

    References:
        Géron (2017), chapter 11, "Learning Rate Scheduling": short runs compared over rates on a
        log axis. Leslie Smith (2017), Cyclical Learning Rates for Training Neural Networks, raises
        the rate within one run instead.

    Use when: a model or optimizer is new: take the best rate, or a slightly lower one.
    Avoid when: hyperparameters depend on each other: `random_search` varies them together.

    Example:
        >>> import jaxopt_cards as jc
        >>> from flax import nnx
        >>> from jaxopt_cards import data, layers, training
        >>> train, valid, _ = data.digits()
        >>> model = layers.MLP(64, 10, units=(20,), rngs=nnx.Rngs(0))
        >>> found = training.learning_rate_range(
        ...     model, jc.adam, train=train, valid=valid, points=4, progress=False
        ... )
        >>> len(found.rates), 1e-3 < found.best < 0.1
        (4, True)
    """
    if not callable(make_tx):
        expected = "be a function of learning_rate that returns a transformation, such as adam"
        raise HyperparameterError("make_tx", expected, make_tx)
    if low >= high:
        raise HyperparameterError("high", f"be above low, {low}", high)
    check_seed("seed", seed)
    rates = np.geomspace(low, high, points)
    results = fit_many(
        [model] * points,
        make_tx,
        [{"learning_rate": float(rate)} for rate in rates],
        train=train,
        valid=valid,
        batch_size=batch_size,
        seeds=[seed] * points,
        side_by_side=side_by_side,
        placement=placement,
        **settings,
    )
    last = np.array([[column[-1] for column in result.history[:2]] for result in results])
    last[~np.isfinite(last)] = np.nan
    if np.isnan(last[:, 1]).all():
        raise NotFiniteError(f"the loss was finite at none of the rates from {low} on")
    return RateRange(rates, *last.T)
