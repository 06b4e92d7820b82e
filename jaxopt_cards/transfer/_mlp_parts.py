"""The hidden layers of an MLP, one by one."""

from typing import Any

from jaxopt_cards._checks import HyperparameterError, check_count
from jaxopt_cards.layers import MLP


def check_mlp(function: str, model: Any) -> None:
    """Raises unless the model is an MLP, whose layers are known by name."""
    if not isinstance(model, MLP):
        raise HyperparameterError(function, "model", "be a layers.MLP", type(model).__name__)


def check_upto(function: str, argument: str, upto: Any, model: MLP) -> None:
    """Raises unless the model has so many hidden layers."""
    check_count(function, argument, upto, least=0)
    if upto > model.depth:
        expected = f"be at most the {model.depth} hidden layers of the model"
        raise HyperparameterError(function, argument, expected, upto)


def parts_of(model: MLP, index: int) -> dict[str, Any]:
    """What a hidden layer is made of, by attribute: dense, normalisation and activation if any."""
    names = (f"hidden{index}{part}" for part in ("", "_norm", "_activation"))
    return {name: getattr(model, name) for name in names if hasattr(model, name)}


def look_of(model: MLP) -> dict[str, Any]:
    """The arguments that give new layers the look of the model's hidden layers."""
    norm = getattr(model, "hidden1_norm", None)
    momentum = {} if norm is None else {"batch_norm_momentum": norm.momentum}
    return {"activation": model.activation, "batch_norm": norm is not None, **momentum}
