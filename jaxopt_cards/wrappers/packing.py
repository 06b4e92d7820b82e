"""Many small leaves packed into one array."""

import dataclasses
import functools
import math
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_cards.core.abstract import applied, is_placeholder
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import listed, path_names
from jaxopt_cards.core.precision import wider
from jaxopt_cards.core.sharding import laid_out_like, split_by
from jaxopt_cards.wrappers.elementwise import check_elementwise

PyTree = Any


class Layout(NamedTuple):
    """Where the leaves of a packed tree are; equal for a tree and its gradient."""

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]  # of each leaf
    vectors: tuple[int, ...]  # for each leaf the index of its vector; -1 if it is large


@dataclasses.dataclass(frozen=True)
class Packed:
    """A tree with its small leaves in one vector for each dtype; itself a tree of arrays."""

    small: list[jax.Array]  # vectors
    large: list[jax.Array]  # the other leaves, as they are
    layout: Layout


jax.tree_util.register_dataclass(Packed, data_fields=["small", "large"], meta_fields=["layout"])


@declare
def pack_params(params: PyTree, max_size: Annotated[int, "[1, inf)"] = 4096) -> Packed:
    r"""Packs the small leaves of a tree into one vector for each dtype.

    Keep packed parameters from step to step and unpack them inside the loss: the gradients are then
    packed too, and a step passes a few buffers instead of thousands.

    Equation:
        .. math:: p = (\mathrm{vec}\,\theta_1, \mathrm{vec}\,\theta_2, \dots)

        with :math:`\theta_i` the small leaves of one dtype and :math:`p` their vector.

    Args:
        params: any tree of arrays.
        max_size: leaves with at most this number of elements are packed.

    Returns:
        A `Packed`: a tree of arrays that knows its layout.

    References:
        Optax (2021), `flatten`, which lays out all leaves as one array.

    Use when: the network has hundreds of small arrays: their buffers cost more than their numbers.
    Avoid when: arrays are few or large: copying them together costs more than it saves.

    Example:
        >>> import jax, jax.numpy as jnp, jaxopt_cards as jc
        >>> packed = jc.pack_params({"a": jnp.ones(3), "b": jnp.ones((2, 2))})
        >>> loss = lambda packed: jnp.sum(jc.unpack_params(packed)["b"] ** 2)
        >>> print(jax.grad(loss)(packed).small)
        [Array([0., 0., 0., 2., 2., 2., 2.], dtype=float32)]
    """
    leaves, treedef = jax.tree.flatten(params)
    dtypes: list[Any] = []  # of the vectors
    vectors = []
    for leaf in leaves:
        is_large, dtype = math.prod(np.shape(leaf)) > max_size, jnp.result_type(leaf)
        if not is_large and dtype not in dtypes:
            dtypes.append(dtype)
        vectors.append(-1 if is_large else dtypes.index(dtype))
    layout = Layout(treedef, tuple(np.shape(leaf) for leaf in leaves), tuple(vectors))
    return applied(functools.partial(_packed, layout), leaves)


def _packed(layout: Layout, leaves: list) -> Packed:
    """The leaves in this layout; those of one vector get their common dtype."""
    parts: list[list[jax.Array]] = [[] for _ in range(max(layout.vectors, default=-1) + 1)]
    large: list[jax.Array] = []
    for vector, leaf in zip(layout.vectors, leaves, strict=True):
        (large if vector < 0 else parts[vector]).append(jnp.asarray(leaf))
    small = [[split_by(leaf).ravel().astype(wider(*part)) for leaf in part] for part in parts]
    return Packed([jnp.concatenate(part) for part in small], large, layout)


@declare
def unpack_params(packed: Packed) -> PyTree:
    r"""Returns the tree that `pack_params` packed.

    Cheap inside a compiled function, where the pieces of a vector need not be copied.

    Args:
        packed: the result of `pack_params`, or its gradient.

    Returns:
        The tree, with the original shapes and dtypes of the leaves.

    Raises:
        ValueError: `packed` is not a `Packed`.

    References:
        Optax (2021), `flatten`, which lays out all leaves as one array.

    Use when: at the beginning of a loss function of packed parameters.
    Avoid when: the parameters were not packed.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> params = {"a": jnp.zeros(3), "b": jnp.ones((2, 2))}
        >>> jc.unpack_params(jc.pack_params(params))["a"].shape
        (3,)
    """
    if not isinstance(packed, Packed):
        raise NamedError(f"packed must be a Packed, got {type(packed).__name__}")
    layout, large = packed.layout, iter(packed.large)
    sizes: list[list[int]] = [[] for _ in packed.small]
    for shape, vector in zip(layout.shapes, layout.vectors, strict=True):
        if vector >= 0:
            sizes[vector].append(math.prod(shape))
    pieces = [
        iter(jax.lax.split(vector, part)) for vector, part in zip(packed.small, sizes, strict=True)
    ]
    leaves = [
        next(large) if vector < 0 else next(pieces[vector]).reshape(shape)
        for shape, vector in zip(layout.shapes, layout.vectors, strict=True)
    ]
    return layout.treedef.unflatten(leaves)


@declare(elementwise=True, is_wrapper=True)
def pack_small_leaves(
    inner: optax.GradientTransformation, max_size: Annotated[int, "[1, inf)"] = 4096
) -> optax.GradientTransformationExtraArgs:
    r"""Packs all small leaves into one array for an element-wise transformation.

    A tree of a thousand small arrays needs a thousand small loops and, between host and device, a
    thousand buffers for each array of state. Packed, it needs one of each; the results are the
    same. In each step parameters and gradients are packed and unpacked, unless they come from
    `pack_params`: then nothing is copied. Whether `inner` is element-wise is read from its program
    when `init` is called.

    Equation:
        .. math:: u = \mathrm{unpack}(\mathrm{update}(\mathrm{pack}(g), s, \mathrm{pack}(\theta)))

        with :math:`g` the gradient, :math:`s` the state of `inner`, :math:`\theta` the parameters,
        :math:`u` the update.

    Args:
        inner: an element-wise transformation, such as any optimizer of this package; not one that
            uses norms, paths or shapes. To mask, pack inside of `masked`.
        max_size: leaves with at most this number of elements are packed.

    State:
        That of `inner` for a `Packed` tree: one vector for each dtype, and the large leaves.

    Raises:
        ValueError: `inner` is no transformation; (at `init`) it is not element-wise, has masks, or
            cannot be analysed: the message says why; (when updating) the structure of the updates
            differs from that of the parameters.

    References:
        Optax (2021), `flatten`, which lays out all leaves as one array and checks nothing.

    Use when: the network has hundreds of small arrays and steps are short.
    Avoid when: arrays are few or large: copying them together costs more than it saves.

    Example:
        >>> import jax, jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.pack_small_leaves(jc.adam(0.1))
        >>> params = {"a": jnp.ones(3), "b": jnp.ones((2, 2)), "c": jnp.ones(())}
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> print(updates["a"].round(3), jax.tree.map(jnp.shape, state[0].mu.small))
        [-0.1 -0.1 -0.1] [(8,)]
    """
    inner = optax.with_extra_args_support(inner)

    # As a list: a container may have changed since `init`, as in `nnx.Optimizer`, which first has
    # `Param`s and then their arrays.
    def packed(tree, layout=None):
        if isinstance(tree, Packed):
            return tree
        leaves = jax.tree.leaves(tree)
        return _packed(layout, leaves) if layout else pack_params(leaves, max_size)

    def init(params):
        if is_placeholder(params):  # no part of the state has the structure of the parameters
            return inner.init(jnp.zeros(()))
        params = packed(params)
        layout = zip(params.layout.shapes, params.layout.vectors, strict=True)
        shapes = {(shape, params.small[i].dtype) for shape, i in layout if i >= 0}
        check_elementwise(inner, sorted(shapes, key=str))
        return inner.init(params)

    def update(updates, state, params=None, **extra_args):
        treedef: Any = jax.tree.structure(updates)
        if params is not None and jax.tree.structure(params) != treedef:
            raise NamedError(
                "the updates and the parameters differ in structure; the updates have"
                f"{listed(path_names(updates))}\nand the parameters{listed(path_names(params))}",
            )
        weights = None if params is None else packed(params)
        if isinstance(updates, Packed):
            return inner.update(updates, state, weights, **extra_args)
        # Gradients may have other dtypes than parameters, but must have the layout of the state.
        layout = next((node.layout for node in _packs((state, weights))), None)
        grads = jax.tree.leaves(updates)
        # Without barriers XLA recomputes the whole vector for each of its pieces.
        updates = jax.lax.optimization_barrier(packed(grads, layout))
        updates, state = inner.update(updates, state, weights, **extra_args)
        leaves = unpack_params(jax.lax.optimization_barrier(updates))
        return treedef.unflatten(map(laid_out_like, leaves, map(jnp.asarray, grads))), state

    return optax.GradientTransformationExtraArgs(init, update)


def _packs(tree: PyTree) -> list[Packed]:
    """The packed trees inside of a tree."""
    nodes = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, Packed))
    return [node for node in nodes if isinstance(node, Packed)]
