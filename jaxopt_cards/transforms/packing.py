"""Many small leaves laid out as one array."""

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


class Packed(NamedTuple):
    """A tree with its small leaves in one vector for each dtype."""

    small: list[jax.Array]  # vectors
    large: list[jax.Array]  # the other leaves, as they are


def pack_small_leaves(
    inner: optax.GradientTransformation, max_size: int = 4096
) -> optax.GradientTransformationExtraArgs:
    r"""Lays out all small leaves as one array for an element-wise transformation.

    A tree of a thousand small arrays costs a thousand small loops and, between host and device, a
    thousand buffers for each array of state. Packed, it costs one of each; the numbers stay the
    same. Whether `inner` is element-wise is read from its program when `init` is called.

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

    def init(params):
        _check_elementwise(inner, [x for x in jax.tree.leaves(params) if x.size <= max_size])
        return inner.init(_packed(params, max_size))

    def update(updates, state, params=None, **extra_args):
        packed = _packed(updates, max_size)
        weights = None if params is None else _packed(params, max_size)
        packed, state = inner.update(packed, state, weights, **extra_args)
        return _unpacked(packed, updates, max_size), state

    return optax.GradientTransformationExtraArgs(init, update)


def _packed(tree: PyTree, max_size: int) -> Packed:
    by_dtype: dict[Any, list[jax.Array]] = {}
    large = []
    for leaf in jax.tree.leaves(tree):
        if leaf.size <= max_size:
            by_dtype.setdefault(leaf.dtype, []).append(leaf.ravel())
        else:
            large.append(leaf)
    return Packed([jnp.concatenate(leaves) for leaves in by_dtype.values()], large)


def _unpacked(packed: Packed, like: PyTree, max_size: int) -> PyTree:
    """The leaves again, each in its place and shape in the tree `like`."""
    leaves = jax.tree.leaves(like)
    small = [leaf for leaf in leaves if leaf.size <= max_size]
    pieces = {}
    for dtype, vector in zip(dict.fromkeys(x.dtype for x in small), packed.small, strict=True):
        sizes = [leaf.size for leaf in small if leaf.dtype == dtype]
        pieces[dtype] = iter(jax.lax.split(vector, sizes))
    large = iter(packed.large)
    unpacked = [
        next(pieces[leaf.dtype]).reshape(leaf.shape) if leaf.size <= max_size else next(large)
        for leaf in leaves
    ]
    return jax.tree.unflatten(jax.tree.structure(like), unpacked)


def _check_elementwise(inner: optax.GradientTransformationExtraArgs, leaves: list) -> None:
    """Raises unless the program of `inner` treats each element alone, and all shapes alike."""
    shapes = dict.fromkeys((leaf.shape, leaf.dtype) for leaf in leaves)
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
