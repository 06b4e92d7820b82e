"""One array in the place of another: whether it fits, in which precision, and how it is put."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_cards.storage.arrays import is_key


def is_same(one: Any, other: Any) -> bool:
    """Whether two arrays of one shape and dtype have the same bits."""
    if one is other:
        return True
    if hasattr(one, "dtype") and is_key(one):
        one, other = map(jax.random.key_data, (one, other))
    return np.asarray(one).tobytes() == np.asarray(other).tobytes()


def misfit(wanted: Any, found: Any) -> str:
    """Why an array cannot take another's place; empty if it can."""
    ours, theirs = (f"{dtype_of(array)}{list(np.shape(array))}" for array in (wanted, found))
    if ours == theirs:
        return ""
    floats = all(jnp.issubdtype(dtype_of(array), jnp.floating) for array in (wanted, found))
    hint = "; cast=True would cast it" if floats and np.shape(wanted) == np.shape(found) else ""
    return f"saved is {theirs}, needed is {ours}{hint}"


def in_precision(found: Any, wanted: Any) -> Any:
    """The array in the precision that is wanted, where that is another and no number is lost."""
    dtype = dtype_of(wanted)
    is_float = all(jnp.issubdtype(d, jnp.floating) for d in (dtype, dtype_of(found)))
    if not is_float or dtype == dtype_of(found):
        return found
    array = np.asarray(found)
    with np.errstate(over="ignore"):
        new = array.astype(dtype)
    return new if np.array_equal(np.isfinite(new), np.isfinite(array)) else found


def as_it_is(array: Any) -> Any:
    """The array on the device, unless JAX would cast it, as float64 while 64-bit types are off."""
    moved = jnp.asarray(array)
    return moved if moved.dtype == dtype_of(array) else array


def dtype_of(array: Any) -> Any:
    """The dtype of an array, or of what becomes one."""
    # Not JAX's asarray, to which float64 is float32 while 64-bit types are off.
    return array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype
