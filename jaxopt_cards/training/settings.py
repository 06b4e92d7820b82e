"""The settings that `fit`, `fit_many` and the functions built on them share, and their checks."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypedDict

import jax
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import listed, path_names
from jaxopt_cards.training.epoch_program import Arrays, Options
from jaxopt_cards.training.frozen import Frozen
from jaxopt_cards.training.inputs import default_loss
from jaxopt_cards.training.points import Evaluated

Loss = Callable[[jax.Array, jax.Array], jax.Array]
Regularizer = Callable[[Any], jax.Array]
Augment = Callable[[jax.Array, jax.Array], jax.Array]


class StepSettings(TypedDict, total=False):
    """What a step of training computes; described with `fit`."""

    loss: Loss
    regularizer: Regularizer | None
    augment: Augment | None
    trainable: Any
    evaluated: Evaluated | None


class RunSettings(StepSettings, total=False):
    """How long a run goes on, and how its rate falls; described with `fit`."""

    epochs: Annotated[int, "[1, inf)"]
    patience: Annotated[int, "[1, inf)"] | None
    plateau: optax.GradientTransformation | None
    progress: bool


class FitSettings(RunSettings, total=False):
    """All settings of one run; described with `fit`."""

    batch_size: Annotated[int, "[1, inf)"]
    seed: int
    evaluate_every: Annotated[int, "[1, inf)"] | None


STEP = {"loss": default_loss, "regularizer": None, "augment": None, "trainable": nnx.Param}
STEP |= {"evaluated": None}
RUN = {"epochs": 100, "patience": None, "plateau": None, "progress": True} | STEP
FIT = {"batch_size": 32, "seed": 0, "evaluate_every": None} | RUN
# What functions refuse that have one evaluation an epoch, or none.
BY_EPOCHS = {"evaluate_every": "be left out here: only fit and fine_tune evaluate by steps"}


def options(settings: Mapping[str, Any], batch_sharding: Any = None) -> Options:
    """Checks and gathers the options of the epoch program."""
    for argument in ("regularizer", "augment", "evaluated"):
        value = settings[argument]
        if value is not None and not callable(value):
            raise HyperparameterError(argument, "be a function", value)
    plateau = settings.get("plateau")
    if plateau is not None and not _scales_by_value(plateau):
        expected = "be a transformation that scales by a value, such as reduce_on_plateau()"
        raise HyperparameterError("plateau", expected, plateau)
    return Options(
        settings["regularizer"],
        settings["augment"],
        plateau,
        batch_sharding,
        settings["evaluated"],
        settings.get("evaluate_every"),
    )


def _scales_by_value(plateau: Any) -> bool:
    """Whether it keeps a positive update positive, given a loss, which no optimizer does."""
    one = np.float32(1)
    try:
        factor, _ = jax.jit(plateau.update)(one, plateau.init(one), value=one)
        return bool(factor > 0)
    except (AttributeError, TypeError, ValueError):
        return False


def check_batch_size(batch_size: int, examples: int) -> None:
    """Raises if a batch would be larger than the training set."""
    if batch_size > examples:
        expected = f"be at most the {examples} training examples"
        raise HyperparameterError("batch_size", expected, batch_size)


def check_evaluate_every(evaluate_every: int | None, epochs: int, steps: int) -> None:
    """Raises if a run with this number of steps in an epoch would have no evaluation."""
    if evaluate_every is not None and evaluate_every > epochs * steps:
        expected = f"be at most the {epochs * steps} steps of the run"
        raise HyperparameterError("evaluate_every", expected, evaluate_every)


def check_trainable(given: Any, trainable: Any, arrays: Arrays, frozen: Any) -> None:
    """Raises unless the filter leaves something to train, and something to freeze if it should."""
    paths = listed([*path_names(arrays.params), *path_names(frozen)])
    if not jax.tree.leaves(arrays.params):
        raise NamedError(f"trainable={given!r} leaves no parameter to train; there are{paths}")
    if isinstance(trainable, Frozen) and not (trainable.all_but or jax.tree.leaves(frozen)):
        raise NamedError(f"trainable={given!r} matches none of the parameters{paths}")
