"""Hyperparameters as values and as text."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np


class Call(NamedTuple):
    """A function as a hyperparameter, such as a schedule, as the call that made it."""

    name: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        """The call as Python code."""
        inner = ", ".join(f"{key}={shown(value)}" for key, value in self.arguments.items())
        return f"{self.name}({inner})" if inner else self.name


def shown(value: Any) -> str:
    """A hyperparameter as short text: arrays by dtype and shape, functions as calls."""
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, jax.core.Tracer):
        return f"traced {_array(value)}"
    if isinstance(value, jax.Array | np.ndarray):
        return f"{value.item():.6g}" if is_number(value) else _array(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple) and not isinstance(value, Call):
        return "[" + ", ".join(map(shown, value)) + "]"
    return str(value)


def _array(value: Any) -> str:
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def is_number(value: Any) -> bool:
    """Whether it is an array of a single concrete number."""
    is_array = isinstance(value, jax.Array | np.ndarray | np.number)
    known = is_array and not isinstance(value, jax.core.Tracer)
    return known and value.ndim == 0 and jax.numpy.issubdtype(value.dtype, np.number)
