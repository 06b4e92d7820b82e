"""Access to the hidden layers of an MLP."""

from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_count
from jaxopt_cards.layers import MLP


def check_mlp(model: Any) -> None:
    """Raises unless the model is an MLP, whose layers have known names."""
    if not isinstance(model, MLP):
        raise HyperparameterError("model", "be a layers.MLP", type(model).__name__)


def check_upto(argument: str, upto: Any, model: MLP, *, least: int = 0) -> None:
    """Raises unless the model has that many hidden layers."""
    check_count(argument, upto, least=least)
    if upto > model.depth:
        expected = f"be at most {model.depth}, the hidden layers of the model"
        raise HyperparameterError(argument, expected, upto)


def check_rngs(rngs: Any) -> None:
    """Raises unless it can be used to draw new weights."""
    if not isinstance(rngs, nnx.Rngs):
        raise HyperparameterError("rngs", "be an nnx.Rngs", rngs)


def dense_layers(model: MLP) -> list[Any]:
    """The dense layers, the lowest first, with the output layer."""
    return [*(getattr(model, f"hidden{i + 1}") for i in range(model.depth)), model.logits]


def parts_of(model: MLP, index: int) -> dict[str, Any]:
    """The parts of hidden layer `index`: dense, and normalisation and activation if it has any.

    The keys are the suffixes of the attributes' names, which are the same for all layers.
    """
    ends = {end: f"hidden{index}{end}" for end in ("", "_norm", "_activation")}
    return {end: getattr(model, name) for end, name in ends.items() if hasattr(model, name)}


def dropout_rates(model: MLP) -> Any:
    """The argument `dropout_rate`: a rate, a list with one for each place, or `None` if none."""
    names = [*(f"hidden{index}" for index in range(2, model.depth + 1)), "logits"]
    own = [getattr(model, f"{name}_dropout", None) for name in names]
    if any(own):
        return [0.0 if dropout is None else jnp.copy(dropout.rate[...]) for dropout in own]
    return None if model.dropout is None else jnp.copy(model.dropout.rate[...])


def look_of(model: MLP) -> dict[str, Any]:
    """The arguments that make new layers like the model's hidden layers."""
    return {"activation": model.activation, "batch_norm": model.batch_norm or False}
