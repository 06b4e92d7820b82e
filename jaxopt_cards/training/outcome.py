"""The result of a training run: the best model, the history, and why it ended."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.paths import path_names
from jaxopt_cards.training.epoch_program import Measured


class History(NamedTuple):
    """What was measured in each epoch; arrays of shape (epochs,), float64."""

    train_loss: np.ndarray  # mean over the epoch, while the model changed
    valid_loss: np.ndarray
    valid_accuracy: np.ndarray  # in [0, 1]
    seconds: np.ndarray  # without compilation


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        model: the model as it was in the best epoch, in evaluation mode.
        history: `train_loss`, `valid_loss`, `valid_accuracy` (in [0, 1]) and `seconds` (validation
            included, compilation not), one number per epoch.
        best_epoch: the epoch of the least validation loss, from 1.
        stopped: why training ended: "epochs", "patience", or "not finite" (the training loss).
        compile_seconds: time to compile; near zero if the same was compiled before.
        trouble: where a training or validation loss was not finite, and what to try; else empty.
        last: the model after the last epoch, in evaluation mode; `None` from `fit_many`.
        opt_state: the optimizer's state after the last epoch, which goes with `last`.
    """

    model: nnx.Module
    history: History
    best_epoch: int
    stopped: str
    compile_seconds: float
    trouble: str = ""
    last: nnx.Module | None = None
    opt_state: optax.OptState = None

    @property
    def seconds(self) -> float:
        """Time of all epochs together, without compilation."""
        return float(self.history.seconds.sum())


def trouble_in(history: Any, measured: Measured | None, params: Any) -> str:
    """A warning about losses that are not finite; empty if all are finite."""
    bad = [number for number, (_, loss, *_) in enumerate(history, 1) if not np.isfinite(loss)]
    trained = np.isfinite(history[-1][0])
    if trained and not bad:
        return ""
    broken = not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))
    if not trained or (broken and bad[-1] == len(history)):
        return told(measured, len(history), params)
    number, more = bad[0], len(bad) - 1
    also = f" and in {more} later one{'s' if more > 1 else ''}" if more else ""
    return (
        f"the validation loss is not finite in epoch {number}{also}, though the training loss is: "
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


def stops(history: list[list[float]], epochs: int, patience: int | None) -> str:
    """Why to stop after these epochs; empty if not."""
    if history and not np.isfinite(history[-1][0]):
        return "not finite"
    if patience and history:
        losses = [loss if np.isfinite(loss) else np.inf for _, loss, *_ in history]
        if len(losses) - 1 - int(np.argmin(losses)) >= patience:
            return "patience"
    return "epochs" if len(history) >= epochs else ""


def summary(result: FitResult) -> str:
    """One line on the best epoch and the time taken."""
    loss, accuracy = (column[result.best_epoch - 1] for column in result.history[1:3])
    epochs = len(result.history.seconds)
    return (
        f"best epoch {result.best_epoch} of {epochs}: validation loss {loss:.4f}, accuracy "
        f"{accuracy:.2%}; {result.seconds:.1f} s, and {result.compile_seconds:.1f} s to compile"
    )
