"""States of abstract parameters: shapes without values, and Optax's placeholder."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def is_abstract(leaf: Any) -> bool:
    """Whether it is only the shape and dtype of an array."""
    return isinstance(leaf, jax.ShapeDtypeStruct)


def is_placeholder(params: Any) -> bool:
    """Whether it is the placeholder with which `optax.tree.map_params` inspects a state."""
    return type(params).__name__ == "_ParamsPlaceholder"


def applied(function: Callable, *trees: Any) -> Any:
    """The value of a function, or its shape if some leaves are abstract."""
    abstract = any(map(is_abstract, jax.tree.leaves(trees)))
    return jax.eval_shape(function, *trees) if abstract else function(*trees)


def with_values(init: Callable, param: Any) -> Any:
    """`init(param)`; arrays even for an abstract parameter, as in Optax, if values do not matter.

    If they do, as for a copy of the parameter, the state is abstract too.
    """
    if not is_abstract(param):
        return init(param)
    if _reads_values(init, param):
        return jax.eval_shape(init, param)
    return init(jnp.zeros(param.shape, param.dtype, device=param.sharding))


def owned(array: Any, taken: dict[int, Any]) -> Any:
    """The array in its own buffer, different from all in `taken`, so that a step can donate it.

    It has no weak type, which the carry of a loop would not keep.
    """
    if is_abstract(array):
        return jax.ShapeDtypeStruct(array.shape, array.dtype)
    array = jnp.asarray(array, jnp.result_type(array))
    if id(array) in taken:
        array = jnp.copy(array)
    taken[id(array)] = array
    return array


def _reads_values(init: Callable, param: Any) -> bool:
    """Whether the results depend on the argument, by following the program backwards."""
    jaxpr = jax.make_jaxpr(init)(param).jaxpr
    needed = {id(out) for out in jaxpr.outvars}
    for equation in reversed(jaxpr.eqns):
        if needed & {id(out) for out in equation.outvars}:
            needed |= {id(value) for value in equation.invars}
    return any(id(value) in needed for value in jaxpr.invars)
