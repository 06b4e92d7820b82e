"""Checks and conversions of an array that replaces another one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_cards.storage.arrays import is_key


def is_same(one: Any, other: Any) -> bool:
    """Whether two arrays of the same shape and dtype have the same bits."""
    if one is other:
        return True
    if hasattr(one, "dtype") and is_key(one):
        one, other = map(jax.random.key_data, (one, other))
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


def misfit(wanted: Any, found: Any) -> str:
    """Why an array cannot replace another one; empty if it can."""
    ours, theirs = (f"{dtype_of(array)}{list(np.shape(array))}" for array in (wanted, found))
    if ours == theirs:
        return ""
    floats = all(jnp.issubdtype(dtype_of(array), jnp.floating) for array in (wanted, found))
    hint = "; cast=True would cast it" if floats and np.shape(wanted) == np.shape(found) else ""
    return f"expected {ours}, got {theirs}{hint}"


def in_precision(found: Any, wanted: Any) -> Any:
    """The array cast to another floating-point dtype, unless numbers would become infinite."""
    dtype = dtype_of(wanted)
    is_float = all(jnp.issubdtype(d, jnp.floating) for d in (dtype, dtype_of(found)))
    if not is_float or dtype == dtype_of(found):
        return found
    array = np.asarray(found)
    with np.errstate(over="ignore"):
        new = array.astype(dtype)
    return new if np.array_equal(np.isfinite(new), np.isfinite(array)) else found


def as_it_is(array: Any) -> Any:
    """The array on the device, unless JAX would cast it, such as float64 without 64-bit types."""
    moved = jnp.asarray(array)
    return moved if moved.dtype == dtype_of(array) else array


def dtype_of(array: Any) -> Any:
    """The dtype of an array, or of a value that NumPy can convert to one."""
    # Not with JAX's asarray, which casts float64 to float32 without 64-bit types.
    return array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype
