"""Checks of hyperparameters, with errors that name the function the user called."""

import operator
from collections import abc
from collections.abc import Callable
from typing import Any, get_args, get_origin

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_cards.core.errors import NamedError

LONG = 200  # letters
LINE = 500


def shown(got: object) -> str:
    """The `repr` of a value on one line, shortened: that of a network fills a page."""
    return escaped(" ".join(repr(got).split()), LONG)


def escaped(text: object, limit: int | None = LINE, *, lines: bool = False) -> str:
    r"""Text from a file or another source, made safe to show on a terminal or a page.

    Characters that are not printable become backslash escapes: control characters such as ESC, line
    breaks (kept if `lines` is true), marks that are invisible or change the direction of writing,
    lone surrogates. Letters of all languages stay. The middle of text longer than `limit` is cut.
    """
    text = str(text)
    if limit is not None and len(text) > limit:
        end = limit // 4  # the reason is often at the end of a message
        text = f"{text[: limit - end]} … {text[-end:]}"
    kept = "\n\t" if lines else ""
    return "".join(
        each if each.isprintable() or each in kept else each.encode("unicode_escape").decode()
        for each in text
    )


class HyperparameterError(NamedError):
    """A hyperparameter outside its range: function, argument, expected and got."""

    def __init__(self, argument: str, expected: str, got: object):
        """Keeps the argument, the expectation and the value."""
        super().__init__(f"{argument} must {expected}, got {shown(got)}")
        self.argument, self.expected, self.got = argument, expected, got

    def __reduce__(self) -> Any:
        """For pickling, as multiprocessing does with errors of other processes."""
        return NamedError, (self.message,), {"function": self.function}


def check_number(argument: str, value: Any, interval: str, *, or_schedule: bool = False) -> Any:
    """Returns the number, or with `or_schedule` a schedule; raises if it is not in `interval`.

    The interval is written as in mathematics, such as "[0, 1)", and is part of the error message.
    An array of shape (1,) counts as a number and is returned with shape (), since it would add a
    dimension to scalar updates. Of traced values only the shape is checked.
    """
    if or_schedule and callable(value):
        return value
    kind = "a number or a schedule" if or_schedule else "a number"
    if np.shape(value) == (1,) and hasattr(value, "reshape"):
        value = value.reshape(())
    is_traced = isinstance(value, jax.core.Tracer)
    numbers = value if is_traced else np.asarray(value)
    # Arrays of several numbers are refused: they would scale elements, not the whole update.
    is_number = numbers.dtype.kind in "iuf" or numbers.dtype.name == "bfloat16"
    if numbers.ndim or not is_number:
        raise HyperparameterError(argument, f"be {kind} in {interval}", value)
    if is_traced:
        return value
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    above = numbers >= low if interval[0] == "[" else numbers > low
    below = numbers <= high if interval[-1] == "]" else numbers < high
    if not np.all(above & below):  # also raised for NaN, which compares false with everything
        raise HyperparameterError(argument, f"lie in {interval}", value)
    return value


def of_type(kind: Any, interval: str) -> Callable[[str, Any], Any]:
    """The check of an argument that is declared as `Annotated[kind, interval]`."""
    if kind is not int:
        kinds = (kind, *get_args(kind))
        or_schedule = any(get_origin(each) is abc.Callable for each in kinds)
        return lambda name, value: check_number(name, value, interval, or_schedule=or_schedule)

    def whole(name: str, value: Any) -> Any:
        check_count(name, value, least=int(interval[1:].split(",")[0]))
        return check_number(name, value, interval)

    return whole


def check_eps(eps: Any, eps_root: Any) -> tuple[Any, Any]:
    """Returns both; one must be positive, since a gradient that was always zero would give NaN."""
    eps_root = check_number("eps_root", eps_root, "[0, inf)")
    no_root = not isinstance(eps_root, jax.core.Tracer) and not np.any(eps_root)
    return check_number("eps", eps, "(0, inf)" if no_root else "[0, inf)"), eps_root


def check_float_dtype(argument: str, dtype: Any) -> None:
    """Raises unless `dtype` is `None` or a floating-point dtype."""
    try:
        valid = dtype is None or jnp.issubdtype(jnp.dtype(dtype), jnp.inexact)
    except TypeError:  # not a dtype, such as "bfloat17"
        valid = False
    if not valid:
        raise HyperparameterError(argument, "be a dtype of floating point", dtype)


def is_transformation(value: Any) -> bool:
    """Whether it has callable `init` and `update`."""
    return all(callable(getattr(value, name, None)) for name in ("init", "update"))


def check_tx(argument: str, tx: Any) -> Any:
    """Returns the transformation; raises unless it has functions `init` and `update`."""
    if not is_transformation(tx):
        expected = "be a gradient transformation, such as adam(1e-3)"
        raise HyperparameterError(argument, expected, tx)
    return tx


def check_params(params: Any) -> None:
    """Raises unless the caller of `update` gave the parameters."""
    if params is None:
        raise NamedError(
            "needs the parameters, got params=None: call update(updates, state, params)"
        )


def check_count(argument: str, value: Any, *, least: int = 1) -> None:
    """Raises unless `value` is a whole number of at least `least`."""
    if isinstance(value, jax.core.Tracer):
        return
    # `operator.index` also takes NumPy and JAX scalars of integers.
    try:
        valid = not isinstance(value, bool | np.bool) and operator.index(value) >= least
    except TypeError:
        valid = False
    if not valid:
        raise HyperparameterError(argument, f"be a whole number >= {least}", value)


def check_seed(argument: str, seed: Any) -> None:
    """Raises unless `seed` is a whole number >= 0 that `jax.random.key` uses completely."""
    check_count(argument, seed, least=0)
    # Without 64-bit types JAX keeps the lower 32 bits: 2**32 would be the same seed as 0.
    bits = 63 if jax.dtypes.canonicalize_dtype("int64") == "int64" else 32
    if not isinstance(seed, jax.core.Tracer) and operator.index(seed) >= 2**bits:
        raise HyperparameterError(argument, f"be below 2**{bits}", seed)
