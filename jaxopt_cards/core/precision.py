"""The update of one array: its precision and its checks."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_cards.core.abstract import is_abstract, owned, with_values
from jaxopt_cards.core.leaf_errors import LeafMismatch


def dtype_of(leaf: Any) -> Any:
    """The dtype of an array, a key, a number, or a placeholder of one."""
    return leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)


def is_inexact(leaf: Any) -> bool:
    """Whether it is real or complex: integers, booleans and keys have no gradient."""
    return jnp.issubdtype(dtype_of(leaf), jnp.inexact)


def in_precision(bits: int, array: Any) -> jax.Array:
    """The array with at least this many bits per real number; integers do not change."""
    if not is_inexact(array) or jnp.finfo(array.dtype).bits >= bits:
        return array
    kind = "complex" if jnp.issubdtype(array.dtype, jnp.complexfloating) else "float"
    return array.astype(f"{kind}{bits * 2 if kind == 'complex' else bits}")


def wider(*arrays: Any) -> Any:
    """The common dtype, also under strict dtype promotion."""
    with jax.numpy_dtype_promotion("standard"):
        return functools.reduce(jnp.promote_types, map(dtype_of, arrays))


def is_float0(grad: Any) -> bool:
    """Whether the dtype is `float0`, JAX's gradient of integers."""
    return bool(getattr(grad, "dtype", None) == jax.dtypes.float0)


def is_still(grad: Any, param: Any) -> bool:
    """Whether a leaf has no gradient, by the dtype of the gradient or of the parameter."""
    return is_float0(grad) or not (param is None or is_inexact(param))


def first_state(init: Callable, param: Any, taken: dict[int, Any]) -> Any:
    """What `init` returns for one parameter, in float32 at least; `taken` is that of `owned`."""
    param = param if is_abstract(param) else jnp.asarray(param)
    taken[id(param)] = param
    state = with_values(lambda param: init(in_precision(32, param)), param)
    return jax.tree.map(lambda array: owned(array, taken), state)


def one_leaf(
    init: Callable, update: Callable, layout: Any, of_gradient: bool, *leaf: Any
) -> tuple[Any, tuple]:
    """The update of one leaf: the equation, computed at least in float32.

    The new state has the dtypes of the old one. The update has the dtype of the gradient if it
    depends on the gradient alone, otherwise the wider dtype of gradient and parameter.
    """
    grad, row, param, count = leaf
    grad = _real(grad, param)
    if param is not None and jnp.shape(param) != grad.shape:
        raise LeafMismatch(f"the gradient has shape {grad.shape}, the parameter {param.shape}")
    _check_shapes("state (made by init)", jax.eval_shape(init, grad), row)

    inexact = [leaf for leaf in jax.tree.leaves((grad, row, param)) if is_inexact(leaf)]
    bits = max(32, *(jnp.finfo(leaf.dtype).bits for leaf in inexact))
    wide = jax.tree.map(functools.partial(in_precision, bits), (grad, row, param))
    new_grad, state = _pair(update(wide[0], layout.argument(wide[1]), wide[2], count))
    new_row = layout.row(state)
    _check_shapes("update and state", (grad, row), (new_grad, new_row))
    dtype = grad.dtype if of_gradient or param is None else wider(grad, param)
    return new_grad.astype(dtype), jax.tree.map(
        lambda new, old: new.astype(old.dtype), new_row, row
    )


def unmoved(grad: Any, param: Any) -> Any:
    """The update of a leaf without gradient: zero; for random keys the gradient as it is."""
    if not is_float0(grad) and is_inexact(grad):
        kind = "integers or keys" if param is None else dtype_of(param)
        raise LeafMismatch(f"the parameter is of {kind}, so it has no gradient; got {grad.dtype}")
    if param is None:
        return grad if is_float0(grad) else jnp.zeros_like(grad)
    if jnp.issubdtype(dtype_of(param), jax.dtypes.prng_key):
        return grad
    return jnp.zeros(jnp.shape(grad), dtype_of(param))


def _real(grad: jax.Array, param: Any) -> jax.Array:
    """The gradient as real or complex numbers; integers get the dtype of the parameter."""
    if is_inexact(grad):
        return grad
    if not jnp.issubdtype(grad.dtype, jnp.integer):
        raise LeafMismatch(f"the gradient must be of floating point, got {grad.dtype}")
    return grad.astype(jnp.result_type(float) if param is None else param.dtype)


def _pair(returned: Any) -> tuple[Any, Any]:
    """The update and the state that an equation returned; raises for anything else."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        got = f"{len(returned)} values" if isinstance(returned, tuple) else "one value"
        raise LeafMismatch(f"update must return the pair (update, state), got {got}")
    return returned


def _check_shapes(what: str, expected: Any, got: Any) -> None:
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (expected, got)]
    if shapes[0] != shapes[1]:
        raise LeafMismatch(f"the {what} must have the shapes {shapes[0]}, got {shapes[1]}")
