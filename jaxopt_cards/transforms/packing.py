"""Many small leaves laid out as one array."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards._checks import check_count

PyTree = Any

# What computes each element of its result from the same element of its operands.
# fmt: off
ELEMENTWISE = frozenset((
    "abs", "add", "and", "atan2", "cbrt", "ceil", "clamp", "complex", "conj",
    "convert_element_type", "copy", "cos", "div", "eq", "erf", "exp", "exp2", "expm1", "floor",
    "ge", "gt", "imag", "integer_pow", "is_finite", "le", "log", "log1p", "logistic", "lt",
    "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pow", "real",
    "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sqrt", "square",
    "stop_gradient", "sub", "tan", "tanh", "xor",
))
# fmt: on
# Lays out scalars as arrays; which of them are there depends on the shapes alone.
LAYOUT = frozenset({"broadcast_in_dim"})


class Layout(NamedTuple):
    """Where the leaves of a tree lie once it is packed; equal for a tree and its gradient."""

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]  # of each leaf
    vectors: tuple[int, ...]  # for each leaf the vector it lies in; -1: it is large, and by itself


@dataclasses.dataclass(frozen=True)
class Packed:
    """A tree with its small leaves in one vector for each dtype; itself a tree of arrays."""

    small: list[jax.Array]  # vectors
    large: list[jax.Array]  # the other leaves, as they are
    layout: Layout


jax.tree_util.register_dataclass(Packed, data_fields=["small", "large"], meta_fields=["layout"])


def pack_params(params: PyTree, max_size: int = 4096) -> Packed:
    r"""Lays out the small leaves of a tree as one vector for each dtype.

    Keep packed parameters from step to step and unpack them inside of the loss: gradients then come
    packed too, and a step hands over a few buffers instead of thousands.

    Equation:
        .. math:: p = (\mathrm{vec}\,\theta_1, \mathrm{vec}\,\theta_2, \dots)

    Args:
        params: any tree of arrays.
        max_size: whole number > 0; leaves with at most so many elements are packed.

    Returns:
        A `Packed`: a tree of arrays that knows its layout.

    State:
        None.

    Raises:
        ValueError: `max_size` is not a whole number > 0.

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
    check_count("pack_params", "max_size", max_size)
    leaves, treedef = jax.tree.flatten(params)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    is_small = [leaf.size <= max_size for leaf in leaves]
    dtypes = list(dict.fromkeys(x.dtype for x, s in zip(leaves, is_small, strict=True) if s))
    vectors = tuple(
        dtypes.index(leaf.dtype) if small else -1
        for leaf, small in zip(leaves, is_small, strict=True)
    )
    parts: list[list[jax.Array]] = [[] for _ in dtypes]
    large = []
    for leaf, vector in zip(leaves, vectors, strict=True):
        if vector < 0:
            large.append(leaf)
        else:
            parts[vector].append(leaf.ravel())
    layout = Layout(treedef, tuple(leaf.shape for leaf in leaves), vectors)
    return Packed([jnp.concatenate(part) for part in parts], large, layout)


def unpack_params(packed: Packed) -> PyTree:
    r"""The tree again that `pack_params` packed.

    Cheap inside of a compiled function, where pieces of a vector need not be copied.

    Equation:
        .. math:: \theta_i = \mathrm{vec}^{-1}(p_i)

    Args:
        packed: what `pack_params` made, or its gradient.

    Returns:
        The tree, with the leaves' shapes and dtypes as they were.

    State:
        None.

    Raises:
        ValueError: `packed` is not a `Packed`.

    References:
        Optax (2021), `flatten`, which lays out all leaves as one array.

    Use when: at the beginning of a loss function of packed parameters.
    Avoid when: parameters were never packed.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> params = {"a": jnp.zeros(3), "b": jnp.ones((2, 2))}
        >>> jc.unpack_params(jc.pack_params(params))["a"].shape
        (3,)
    """
    if not isinstance(packed, Packed):
        raise ValueError(f"unpack_params: packed must be a Packed, got {type(packed).__name__}")
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


def pack_small_leaves(
    inner: optax.GradientTransformation, max_size: int = 4096
) -> optax.GradientTransformationExtraArgs:
    r"""Lays out all small leaves as one array for an element-wise transformation.

    A tree of a thousand small arrays costs a thousand small loops and, between host and device, a
    thousand buffers for each array of state. Packed, it costs one of each; the numbers stay the
    same. The parameters and gradients given are packed and unpacked in each step, unless they come
    from `pack_params`: then nothing is copied. Whether `inner` is element-wise is read from its
    program when `init` is called.

    Equation:
        .. math:: u = \mathrm{unpack}(\mathrm{update}(\mathrm{pack}(g), s, \mathrm{pack}(\theta)))

    Args:
        inner: an element-wise transformation, such as any optimizer here, ours or Optax's; not one
            that looks at norms, paths or shapes. To mask, pack inside of `masked`.
        max_size: whole number > 0; leaves with at most so many elements are packed.

    Returns:
        An `optax.GradientTransformationExtraArgs`.

    State:
        That of `inner` for a `Packed` tree: one vector for each dtype, and the large leaves.

    Raises:
        ValueError: (at `init`) `inner` is not element-wise, has masks, or cannot be analysed; the
            message says why.

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
    check_count("pack_small_leaves", "max_size", max_size)
    inner = optax.with_extra_args_support(inner)

    def packed(tree):
        return tree if isinstance(tree, Packed) else pack_params(tree, max_size)

    def init(params):
        params = packed(params)
        layout = zip(params.layout.shapes, params.layout.vectors, strict=True)
        shapes = {(shape, params.small[i].dtype) for shape, i in layout if i >= 0}
        _check_elementwise(inner, sorted(shapes, key=str))
        return inner.init(params)

    def update(updates, state, params=None, **extra_args):
        is_packed = isinstance(updates, Packed)
        updates = packed(updates)
        weights = None if params is None else packed(params)
        if is_packed:
            return inner.update(updates, state, weights, **extra_args)
        # Without barriers XLA computes the whole vector anew for each of its pieces.
        updates = jax.lax.optimization_barrier(updates)
        updates, state = inner.update(updates, state, weights, **extra_args)
        return unpack_params(jax.lax.optimization_barrier(updates)), state

    return optax.GradientTransformationExtraArgs(init, update)


def _check_elementwise(inner: optax.GradientTransformationExtraArgs, shapes: list) -> None:
    """Raises unless the program of `inner` treats each element alone, and all shapes alike."""
    for shape, dtype in shapes:
        vector = jax.ShapeDtypeStruct((7919,), dtype)  # a length that nothing else has
        if _operations(inner, vector) != _operations(inner, jax.ShapeDtypeStruct(shape, dtype)):
            raise ValueError(
                "pack_small_leaves: inner treats arrays of the shape "
                f"{list(shape)} otherwise than vectors, so it cannot be packed"
            )


def _operations(inner: optax.GradientTransformationExtraArgs, leaf: Any) -> list[str]:
    """What an update of one leaf computes, in order; raises where it is not element-wise."""
    tree = {"leaf": leaf}
    try:
        state = jax.eval_shape(inner.init, tree)
        update = lambda *args: inner.update(*args, value=jnp.zeros(()))  # noqa: E731
        traced = jax.make_jaxpr(update)(tree, state, tree)
    except Exception as error:
        raise ValueError(
            "pack_small_leaves: cannot know whether inner is element-wise: tracing it on one "
            f"array failed with {type(error).__name__}: {error}"
        ) from error
    masks = (optax.MaskedState, optax.MaskedNode, optax.transforms.PartitionState)
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, masks))
    if any(isinstance(node, masks) for node in nodes):
        raise ValueError(
            "pack_small_leaves: inner has a mask or a partition, which cannot tell packed leaves "
            "apart; use masked(pack_small_leaves(...), mask) instead"
        )
    shapes = {(), leaf.shape}
    if odd := [node.shape for node in nodes if node.shape not in shapes]:
        _refuse(f"its state has arrays of the shape {list(odd[0])} for a leaf of {leaf.shape}")
    if any(jnp.size(constant) > 1 for constant in traced.consts):
        _refuse("it has arrays of its own")
    return list(_names(traced.jaxpr))


def _names(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        inner = [value for value in equation.params.values() if _is_jaxpr(value)]
        inner += [part for value in equation.params.values() for part in _branches(value)]
        if inner and name not in ("scan", "while"):
            for part in inner:
                yield from _names(getattr(part, "jaxpr", part))
            continue
        sizes = [getattr(v.aval, "size", 1) for v in (*equation.invars, *equation.outvars)]
        is_fill = name in LAYOUT and all(size == 1 for size in sizes[:-1])
        if name not in ELEMENTWISE and not is_fill and any(size > 1 for size in sizes):
            _refuse(f"it computes {name}")
        if name not in LAYOUT:
            literals = [v.val for v in equation.invars if hasattr(v, "val")]
            yield f"{name} {literals}"


def _branches(value: Any) -> tuple:
    is_branches = isinstance(value, tuple) and any(_is_jaxpr(part) for part in value)
    return value if is_branches else ()


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def _refuse(why: str) -> None:
    raise ValueError(f"pack_small_leaves: inner must be element-wise, but {why}")
