"""What a row of the exercises was trained with, read from the objects that were used."""

import functools
import inspect
import itertools
from collections.abc import Callable, Mapping
from typing import Any

from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers

COUNTS = ("batch_size", "epochs", "patience")


class Made:
    """What a function returned, which is a function too, and remembers the call."""

    def __init__(self, maker: Callable[..., Any], **arguments: Any):
        """Makes the call."""
        self.maker, self.arguments = maker, arguments
        self.function = maker(**arguments)

    def __call__(self, *args: Any) -> Any:
        """Calls what was made."""
        return self.function(*args)


def settings_of(
    model: nnx.Module, tx: Any, train: data.Examples, used: Mapping[str, Any]
) -> dict[str, Any]:
    """Network, optimizer, numbers of examples and epochs, and all other arguments as text."""
    counts = {name: used[name] for name in COUNTS}
    extras = {name: told(value) for name, value in used.items() if name not in COUNTS}
    named = {"network": network(model), "optimizer": told(tx), "examples": len(train.y)}
    return named | counts | {"extras": extras}


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same without a mapping inside, as a line of a table."""
    extras = ", ".join(f"{name}={text}" for name, text in settings["extras"].items())
    return {**settings, "extras": extras}


def network(model: nnx.Module, *, head: bool = True) -> str:
    """The layers of a network of the exercises; those inside another are used without a head."""
    if isinstance(model, nnx.Linear):
        return f"{model.in_features} → {model.out_features}"
    if not isinstance(model, layers.MLP):
        parts = nnx.iter_children(model)
        return "; ".join(f"{name}: {network(part, head=False)}" for name, part in parts)
    hidden = [getattr(model, f"hidden{index}") for index in range(1, model.depth + 1)]
    widths = [str(hidden[0].in_features)]
    for width, alike in itertools.groupby(layer.out_features for layer in hidden):
        widths.append(f"{len([*alike])} × {width}")
    widths += [str(model.logits.out_features)] if head else []
    parts = [" → ".join(widths), model.activation.__name__]
    modules = [(path[0], module) for path, module in nnx.iter_modules(model) if path]
    momenta = {module.momentum for _, module in modules if isinstance(module, nnx.BatchNorm)}
    parts += [f"batch normalisation with momentum {momentum}" for momentum in momenta]
    for name, module in modules:
        if type(module).__name__ == "Dropout":
            parts.append(f"{name} {float(module.rate[...]):.3g}")
    return ", ".join(parts)


def told(value: Any) -> str:
    """An argument as text: what another function has made, by the call that made it."""
    if call := getattr(getattr(value, "update", None), "call", None):
        return _call(getattr(jc, call.name), call.arguments)
    if isinstance(value, functools.partial):
        return _call(value.func, value.keywords)
    if isinstance(value, Made):
        return _call(value.maker, value.arguments)
    if masks := getattr(value, "masks", None):
        return f"all but {', '.join(masks)}"
    if isinstance(value, float):
        return f"{value:.3g}"
    return getattr(value, "__name__", None) or str(value)


def _call(maker: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """A call as Python code, without arguments that have their default."""
    parameters = inspect.signature(maker).parameters
    shown = [
        f"{name}={told(value)}"
        for name, value in arguments.items()
        if not (value is parameters[name].default or value == parameters[name].default)
    ]
    return f"{maker.__name__}({', '.join(shown)})"
