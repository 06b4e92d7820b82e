"""Checks of calls that a user wrote as text, so that mistakes give clear errors."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxopt_cards.core.checks import HyperparameterError, check_count, is_transformation
from jaxopt_cards.core.declaration import declaration_of

# Mistakes that Optax silently accepts: text as a mask, which is true everywhere, and schedules that
# keep their first value.
MASKS = {"mask", "weight_decay_mask", "freeze_mask"}
COUNTS = {"linear_schedule": "transition_steps", "warmup_constant_schedule": "warmup_steps"}


def check_values(name: str, function: Callable[..., Any], bound: inspect.BoundArguments) -> None:
    """Raises for values that Optax would silently accept, or for which it would fail later."""
    given = bound.arguments
    for key, value in given.items():
        parameter = bound.signature.parameters[key]
        if parameter.annotation is optax.GradientTransformation:
            for each in value if parameter.kind == parameter.VAR_POSITIONAL else [value]:
                if not is_transformation(each):
                    expected = "be a transformation such as sgd(0.1)"
                    raise HyperparameterError(key, expected, each)
        if key in MASKS and isinstance(value, str) and declaration_of(function) is None:
            raise HyperparameterError(key, "be True or False", value)
        if COUNTS.get(name) == key:
            check_count(key, value)
    if name == "join_schedules" and _length(given["schedules"]) != _length(given["boundaries"]) + 1:
        raise ValueError(f"{name}: schedules must be a list with one element more than boundaries")


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def check_step(text: str, tx: Any, params: Any, **more: Any) -> None:
    """Raises unless the transformation can update these parameters with these arguments."""
    full = optax.with_extra_args_support(tx)

    def step(params: Any) -> Any:
        return full.update(params, full.init(params), params, **more)

    check_call(text, step, params)


def check_call(text: str, function: Callable[[Any], Any], argument: Any) -> None:
    """Raises if a function cannot be traced with this argument; nothing is run."""
    try:
        jax.eval_shape(function, argument)
    except (TypeError, AttributeError, LookupError) as error:
        raise ValueError(f"{text!r} does not work here: {error}") from None
