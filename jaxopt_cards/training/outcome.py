"""The result of a training run: the best model, the history, and why it ended."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.paths import path_names
from jaxopt_cards.training.epoch_program import Measured


class History(NamedTuple):
    """What was measured at each evaluation: after each epoch, or every so many steps."""

    train_loss: np.ndarray  # float64: mean since the last evaluation, while the model changed
    valid_loss: np.ndarray  # float64
    valid_accuracy: np.ndarray  # float64, in [0, 1]
    seconds: np.ndarray  # float64, without compilation
    step: np.ndarray = np.zeros(0, np.int64)  # steps of training until then; empty if unknown
    epoch: np.ndarray = np.zeros(0)  # float64: epochs until then, also 1.5; empty if unknown


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        model: the model as it was at the best evaluation, in evaluation mode.
        history: `train_loss`, `valid_loss`, `valid_accuracy` (in [0, 1]), `seconds` (validation
            included, compilation not), `step` and `epoch`, one number per evaluation: that is per
            epoch, unless `fit` was given `evaluate_every`.
        best_epoch: the epoch of the least validation loss, from 1.
        stopped: why training ended: "epochs", "patience", or "not finite" (the training loss).
        compile_seconds: time to compile; near zero if the same was compiled before.
        trouble: where a training or validation loss was not finite, and what to try; else empty.
        last: the model after the last step, in evaluation mode; `None` from `fit_many`.
        opt_state: the optimizer's state after the last step, which goes with `last`.
        best_step: the number of steps of training until the least validation loss.
    """

    model: nnx.Module = dataclasses.field(repr=False)
    history: History = dataclasses.field(repr=False)
    best_epoch: int
    stopped: str
    compile_seconds: float
    trouble: str = ""
    last: nnx.Module | None = dataclasses.field(default=None, repr=False)
    opt_state: optax.OptState = dataclasses.field(default=None, repr=False)
    best_step: int = 0

    @property
    def best_row(self) -> int:
        """The index of the best evaluation in `history`."""
        if not (self.history.step.size and self.best_step):
            return self.best_epoch - 1
        return int(np.searchsorted(self.history.step, self.best_step))

    @property
    def epochs(self) -> int:
        """How many epochs have begun."""
        known = self.history.epoch
        return math.ceil(known[-1]) if known.size else len(self.history.seconds)

    @property
    def seconds(self) -> float:
        """Time of all epochs together, without compilation."""
        return float(self.history.seconds.sum())


def history_of(rows: list[list[float]], steps: int) -> History:
    """The history of rows of losses and seconds, and of steps if it is not one row per epoch.

    `steps` is the number of steps of an epoch.
    """
    train_loss, valid_loss, accuracy, seconds, *given = np.array(rows).T
    done = given[0] if given else steps * np.arange(1.0, len(rows) + 1)
    return History(
        train_loss, valid_loss, accuracy, seconds, done.astype(np.int64), done / float(steps)
    )


def trouble_in(history: History, measured: Measured | None, params: Any) -> str:
    """A warning about losses that are not finite; empty if all are finite."""
    bad = np.flatnonzero(~np.isfinite(history.valid_loss)).tolist()
    trained = np.isfinite(history.train_loss[-1])
    if trained and not bad:
        return ""
    broken = not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))
    if not trained or (broken and bad[-1] == len(history.step) - 1):
        return told(measured, math.ceil(history.epoch[-1]), params)
    more = len(bad) - 1
    also = f" and in {more} later one{'s' if more > 1 else ''}" if more else ""
    by_epochs = not np.any(history.epoch % 1)
    where = f"epoch {history.epoch[bad[0]]:.0f}" if by_epochs else f"step {history.step[bad[0]]}"
    return (
        f"the validation loss is not finite in {where}{also}, though the training loss is: "
        "look at the validation examples, or try a lower learning rate"
    )


def told(measured: Measured | None, epoch: int, params: Any) -> str:
    """What to know of a loss that is not finite: where it began, and what to try."""
    advice = "try a lower learning rate, or clip gradients"
    if measured is None:  # a run resumed after its end
        return f"the loss is not finite in epoch {epoch}: {advice}"
    if not measured.bad_step:  # the last step did it, whose loss was still finite
        return f"the weights are not finite after epoch {epoch}: {advice}"
    where = largest_weight(measured.largest, params)
    return (
        f"the loss is not finite since step {int(measured.bad_step)} of epoch {epoch}, where "
        f"{where}: {advice}"
    )


def largest_weight(largest: jax.Array, params: Any) -> str:
    """How large the weights of a failed step were, and in which layer."""
    sizes = np.asarray(largest)
    name = path_names(params)[int(np.argmax(sizes))]
    return f"the largest weight was {sizes.max():.3g}, in {name}"


def stops(
    history: list[list[float]], epochs: int, patience: int | None, done: int | None = None
) -> str:
    """Why to stop after these evaluations and epochs, by default as many; empty if not."""
    if history and not np.isfinite(history[-1][0]):
        return "not finite"
    if patience and history:
        losses = [loss if np.isfinite(loss) else np.inf for _, loss, *_ in history]
        if len(losses) - 1 - int(np.argmin(losses)) >= patience:
            return "patience"
    return "epochs" if (len(history) if done is None else done) >= epochs else ""


def summary(result: FitResult) -> str:
    """One line on the best epoch and the time taken."""
    loss, accuracy = (column[result.best_row] for column in result.history[1:3])
    best = f"best epoch {result.best_epoch} of {result.epochs}"
    if np.any(result.history.epoch % 1):
        best = f"best step {result.best_step:,} of {result.history.step[-1]:,}"
    return (
        f"{best}: validation loss {loss:.4f}, accuracy {accuracy:.2%}; {result.seconds:.1f} s, and "
        f"{result.compile_seconds:.1f} s to compile"
    )
