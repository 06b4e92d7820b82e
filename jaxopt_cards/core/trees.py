"""Trees of parameters and gradients, in which some leaves may be missing."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards.core.checks import shown
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.leaf_errors import LeafMismatch
from jaxopt_cards.core.paths import listed, path_names
from jaxopt_cards.core.precision import dtype_of

PyTree = Any


def is_hole(leaf: Any) -> bool:
    """Whether there is no leaf here: `None`, or what `optax.masked` puts in place of one."""
    return leaf is None or isinstance(leaf, optax.MaskedNode)


def flatten(tree: PyTree) -> tuple[list, Any]:
    """The leaves, holes included, and the structure."""
    return jax.tree.flatten(tree, is_leaf=is_hole)


def leaves_like(tree: PyTree, other: PyTree, what: str) -> list:
    """The leaves of another tree, which must have the structure of this one."""
    try:
        return flatten(tree)[1].flatten_up_to(other)
    except ValueError as error:
        got, expected = set(path_names(tree)), set(path_names(other))
        raise NamedError(
            f"the updates and {what} differ in structure; only in the updates:"
            f"{listed(sorted(got - expected))}\nonly in {what}:{listed(sorted(expected - got))}\n"
            f"({error})",
        ) from None


def each_leaf(function: Callable[..., Any], tree: PyTree, *others: list) -> list:
    """The function's value for each leaf and the corresponding items of other lists."""
    values = []
    for index, leaf in enumerate(zip(flatten(tree)[0], *others, strict=True)):
        try:
            values.append(function(*leaf))
        except LeafMismatch as mismatch:
            raise mismatch.at(_path(tree, index)) from None
    return values


def check_parameters(params: PyTree) -> None:
    """Raises unless all leaves are arrays, and some of them can be trained."""
    dtypes = each_leaf(_parameter_dtype, params)
    # Where a part is masked out, the rest may well be nothing but counters.
    if dtypes and not any(d is None or jnp.issubdtype(d, jnp.inexact) for d in dtypes):
        got = f"the parameter must be of floating point, got {dtypes[0]}, and no other one is"
        raise LeafMismatch(got).at(_path(params, 0))


def _parameter_dtype(leaf: Any) -> Any:
    """The dtype of a parameter; `None` of a hole."""
    try:
        return None if is_hole(leaf) else dtype_of(leaf)
    except TypeError:
        raise LeafMismatch(f"the parameter must be an array, got {shown(leaf)}") from None


def _path(tree: PyTree, index: int) -> Any:
    return jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_hole)[index][0]
