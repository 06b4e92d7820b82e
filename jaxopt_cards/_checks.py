"""Checks of hyperparameters, with errors that name the function the user called."""

import functools
import operator
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

LONG = 200  # letters

_Arguments = ParamSpec("_Arguments")
_Built = TypeVar("_Built")


def shown(got: object) -> str:
    """What was given, on one line, cut off where it is long: a network fills a page."""
    text = " ".join(repr(got).split())
    return text if len(text) <= LONG else f"{text[:LONG]} …"


class HyperparameterError(ValueError):
    """A hyperparameter outside its range: which function, which argument, expected, got."""

    def __init__(self, function: str, argument: str, expected: str, got: object):
        """Keeps the parts, so that `named_in_errors` can tell them again under another name."""
        super().__init__(f"{function}: {argument} must {expected}, got {shown(got)}")
        self.argument, self.expected, self.got = argument, expected, got


def check_number(
    function: str, argument: str, value: Any, interval: str, *, or_schedule: bool = False
) -> None:
    """Raises unless `value` is a number, or an array of no dimensions, inside `interval`.

    The interval is written as in mathematics, such as "[0, 1)", and stands as it is in the error.
    Traced values have no number yet and pass; so does any callable where a schedule may stand.
    """
    if isinstance(value, jax.core.Tracer) or (or_schedule and callable(value)):
        return
    numbers = np.asarray(value)
    # Arrays of several numbers are refused: they would scale elements, not the whole.
    is_number = numbers.dtype.kind in "iuf" or numbers.dtype.name == "bfloat16"
    if numbers.ndim or not is_number:
        kind = "a number or a schedule" if or_schedule else "a number"
        raise HyperparameterError(function, argument, f"be {kind} in {interval}", value)
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = numbers >= low if interval[0] == "[" else numbers > low
    below = numbers <= high if interval[-1] == "]" else numbers < high
    if not np.all(above & below):  # NaN compares false with everything, so it ends here too
        raise HyperparameterError(function, argument, f"lie in {interval}", value)


def check_eps(function: str, eps: Any, eps_root: Any) -> None:
    """Raises unless one of them is above zero: a gradient that was always zero would give NaN."""
    check_number(function, "eps_root", eps_root, "[0, inf)")
    no_root = not isinstance(eps_root, jax.core.Tracer) and not np.any(eps_root)
    check_number(function, "eps", eps, "(0, inf)" if no_root else "[0, inf)")


def check_float_dtype(function: str, argument: str, dtype: Any) -> None:
    """Raises unless `dtype` is `None` or one of floating point."""
    if dtype is not None and not jnp.issubdtype(dtype, jnp.inexact):
        raise HyperparameterError(function, argument, "be a dtype of floating point", dtype)


def check_tx(function: str, tx: Any, argument: str = "tx") -> None:
    """Raises unless `tx` has the two functions of a gradient transformation."""
    if not (callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None))):
        expected = "be a gradient transformation, such as adam(1e-3)"
        raise HyperparameterError(function, argument, expected, tx)


def check_count(function: str, argument: str, value: Any, *, least: int = 1) -> None:
    """Raises unless `value` is a whole number of at least `least`."""
    if isinstance(value, jax.core.Tracer):
        return
    # Also a NumPy or JAX scalar may count, if of integers; `operator.index` knows them all.
    try:
        valid = not isinstance(value, bool | np.bool) and operator.index(value) >= least
    except TypeError:
        valid = False
    if not valid:
        raise HyperparameterError(function, argument, f"be a whole number >= {least}", value)


def check_seed(function: str, argument: str, seed: Any) -> None:
    """Raises unless `seed` is a whole number >= 0 of which `jax.random.key` uses every bit."""
    check_count(function, argument, seed, least=0)
    # Without 64-bit types JAX keeps the lower 32 bits: 2**32 would be the same seed as 0.
    bits = 63 if jax.dtypes.canonicalize_dtype("int64") == "int64" else 32
    if not isinstance(seed, jax.core.Tracer) and operator.index(seed) >= 2**bits:
        raise HyperparameterError(function, argument, f"be below 2**{bits}", seed)


def named_in_errors(build: Callable[_Arguments, _Built]) -> Callable[_Arguments, _Built]:
    """Makes a chain report a bad hyperparameter of its stages under its own name."""

    @functools.wraps(build)
    def named(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Built:
        try:
            return build(*args, **kwargs)
        except HyperparameterError as error:
            raise HyperparameterError(
                build.__name__, error.argument, error.expected, error.got
            ) from None

    return named
