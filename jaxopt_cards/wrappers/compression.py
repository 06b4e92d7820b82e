"""Optimizer state in fewer bits."""

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_cards.core.abstract import applied, is_placeholder
from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.sharding import laid_out_like, split_evenly

PyTree = Any

# The 127 magnitudes of the 8-bit code are a fifth of an octave apart and span 25 octaves: fine
# enough for a first moment (at most 7 % to the nearest), wide enough for a second.
STEPS_AN_OCTAVE = 5
LEVELS = 127


class CompressedState(NamedTuple):
    """State of `compress_state`."""

    key: jax.Array  # uint32: data of the key
    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    inner_state: PyTree  # the inner state, its large float32 arrays as bfloat16 or int8 codes
    scales: Any  # for each leaf of it: its scales, () if bfloat16, None if not compressed


@declare(elementwise=True, is_wrapper=True)
def compress_state(
    inner: optax.GradientTransformation,
    bits: int = 16,
    block_size: Annotated[int, "[1, inf)"] = 256,
    min_size: Annotated[int, "[1, inf)"] = 4096,
    key: jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Stores the state of any optimizer in 16 or 8 bits per number.

    Between steps each large float32 array of the inner state is stored as bfloat16, or as 8-bit
    codes with a scale for each block; the step itself is computed in float32. Rounding is
    stochastic, so that small changes add up on average instead of being lost each time. Nonzero
    numbers never become zero, since a second moment of zero would make a step infinite.

    Equation:
        .. math:: s_t = Q(\mathrm{update}(g_t, Q^{-1}(s_{t-1}))), \qquad
            \mathbb{E}\,[Q^{-1}(Q(x))] = x

        with :math:`g_t` the gradient, :math:`s_t` the stored state, :math:`Q` the stochastic
        rounding, which is unbiased for every number :math:`x`. With 8 bits :math:`Q^{-1}(c) = a\,
        \mathrm{sign}(c)\, 2^{(|c| - 127) / 5}`, :math:`c` the code, :math:`a` the largest magnitude
        of the block; magnitudes below :math:`a \cdot 2^{-25.2}` are rounded up.

    Args:
        inner: any transformation, of this package or of Optax.
        bits: 16 (bfloat16) or 8.
        block_size: for 8 bits, the maximum of numbers that share a scale. They are neighbours along
            the longest axis of their array.
        min_size: arrays with fewer elements stay as they are.
        key: a JAX random key; the same key gives the same bits. Default: `jax.random.key(0)`.

    State:
        `CompressedState`: `key`, `count`, and `inner_state`, with the structure and shapes of the
        state of `inner`; its float32 arrays of at least `min_size` numbers are bfloat16, or int8
        codes with one float32 number per block in `scales`. A state saved by a version without
        `scales` cannot be read: start with a new state.

    Raises:
        ValueError: `inner` is no transformation, `bits` is neither 16 nor 8, an argument outside
            its range; (when updating) the state has no `scales` that fit, or `inner` changes the
            structure of its state.

    References:
        Tim Dettmers, Mike Lewis, Sam Shleifer, Luke Zettlemoyer (2022), 8-bit Optimizers via
        Block-wise Quantization.

    Use when: the optimizer's state does not fit in memory with the model and the data.
    Avoid when: it fits: coding takes time. Avoid 8 bits also around `lookahead` or
        `polyak_average`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxopt_cards as jc
        >>> params = jnp.zeros(8192)
        >>> for bits in (16, 8):
        ...     state = jc.compress_state(jc.adam(1e-3), bits=bits).init(params)
        ...     print(sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
        32784
        16656
    """
    if bits not in (8, 16):
        raise HyperparameterError("bits", "be 16 or 8", bits)
    start = jax.random.key(0) if key is None else key
    if not jnp.issubdtype(jnp.result_type(start), jax.dtypes.prng_key):
        raise HyperparameterError("key", "be made by jax.random.key", key)
    impl = jax.random.key_impl(start)
    inner = optax.with_extra_args_support(inner)

    def is_large(leaf):
        return jnp.result_type(leaf) == jnp.float32 and math.prod(np.shape(leaf)) >= min_size

    def code(key, leaf):
        return (_to_bfloat16(key, leaf), ()) if bits == 16 else _encoded(key, leaf, block_size)

    def init(params):
        state, count = inner.init(params), jnp.zeros((), jnp.int32)
        key_data = jnp.copy(jax.random.key_data(start))  # a step may donate it
        if is_placeholder(params):
            return CompressedState(key_data, count, state, jnp.zeros(()))
        codes = _compressed(code, start, state, list(map(is_large, jax.tree.leaves(state))))
        return CompressedState(key_data, count, *codes)

    def update(updates, state, params=None, **extra_args):
        _check_state(state)
        count = optax.safe_increment(state.count)
        now = jax.random.fold_in(jax.random.wrap_key_data(state.key, impl=impl), count)
        updates, inner_state = inner.update(updates, decompressed(state), params, **extra_args)
        are_large = [scales is not None for scales in state.scales]
        new = _compressed(code, now, inner_state, are_large)
        return updates, CompressedState(state.key, count, *new)

    return optax.GradientTransformationExtraArgs(init, update)


def decompressed(state: CompressedState) -> PyTree:
    """The inner state, its numbers instead of codes."""
    codes, treedef = _flatten(state.inner_state)
    return treedef.unflatten(map(_read, codes, state.scales))


def _flatten(tree: PyTree) -> tuple[list, Any]:
    return jax.tree.flatten(tree)


def _check_state(state: Any) -> None:
    """Raises for the state of another transformation, and for one of an earlier version."""
    if not hasattr(state, "scales"):
        got = f"{type(state).__name__}, which has no scales"
        raise NamedError(f"state must be CompressedState, got {got}")
    leaves = len(jax.tree.leaves(state.inner_state))
    if len(state.scales) != leaves:
        got = f"{len(state.scales)} for {leaves} arrays"
        raise NamedError(f"state must have scales for each array, got {got}")


def _compressed(
    code: Callable[..., Any], key: jax.Array, state: PyTree, are_large: list[bool]
) -> tuple[PyTree, tuple]:
    """The state in codes, and their scales."""
    leaves, treedef = _flatten(state)
    if len(leaves) != len(are_large):
        raise NamedError("inner must keep the structure of its state")
    scales: list[Any] = [None] * len(leaves)
    for index, leaf in enumerate(leaves):
        if are_large[index]:
            leaf_key = jax.random.fold_in(key, index)
            leaves[index], scales[index] = applied(functools.partial(code, leaf_key), leaf)
    return treedef.unflatten(leaves), tuple(scales)


def _read(code: jax.Array, scales: Any) -> jax.Array:
    """The array of the inner state that a code stands for."""
    if scales is None:
        return code
    return code.astype(jnp.float32) if isinstance(scales, tuple) else _decoded(code, scales)


def _to_bfloat16(key: jax.Array, x: jax.Array) -> jax.Array:
    """Stochastic rounding: random bits are added below the last one that is kept."""
    pattern = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    kept = ((pattern + noise) >> 16).astype(jnp.uint16)
    rounded = jax.lax.bitcast_convert_type(kept, jnp.bfloat16)
    # Infinities and NaN cannot be rounded.
    return jnp.where(jnp.isfinite(x), rounded, x.astype(jnp.bfloat16))


def _encoded(key: jax.Array, x: jax.Array, block_size: int) -> tuple[jax.Array, jax.Array]:
    """The codes, and the largest magnitude of each block."""
    axis = _longest(x.shape)
    count = -(-max(x.shape, default=1) // block_size)
    blocks = _in_blocks(x, axis, count)
    scales = jnp.max(jnp.abs(blocks), axis=axis + 1, keepdims=True)
    size = jnp.abs(blocks) / jnp.where(scales == 0, 1, scales)
    # The level below, from 1; then the next with the probability that keeps the mean.
    level = jnp.clip(jnp.floor(LEVELS + STEPS_AN_OCTAVE * jnp.log2(size)), 1, LEVELS)
    low, high = _magnitude(level), _magnitude(level + 1)
    up = (size - low) / (high - low) > jax.random.uniform(key, blocks.shape)
    level = jnp.minimum(level + up.astype(level.dtype), LEVELS)
    return _merged((jnp.sign(blocks) * level).astype(jnp.int8), axis, x), jnp.squeeze(
        scales, axis + 1
    )


def _decoded(codes: jax.Array, scales: jax.Array) -> jax.Array:
    axis = _longest(codes.shape)
    blocks = _in_blocks(codes, axis, scales.shape[axis]).astype(jnp.float32)
    values = jnp.sign(blocks) * _magnitude(jnp.abs(blocks)) * jnp.expand_dims(scales, axis + 1)
    return _merged(values, axis, codes)


def _magnitude(level: jax.Array) -> jax.Array:
    return jnp.exp2((level - LEVELS) / STEPS_AN_OCTAVE)


def _longest(shape: tuple[int, ...]) -> int:
    """The axis of the blocks: few scales are needed, and all other axes can be sharded."""
    return max(range(len(shape)), key=shape.__getitem__, default=0)


def _in_blocks(x: jax.Array, axis: int, count: int) -> jax.Array:
    """The array with one axis split into `count` blocks of equal size, padded with zeros."""
    x = jnp.atleast_1d(x)
    size = -(-x.shape[axis] // count)
    missing = count * size - x.shape[axis]
    x = split_evenly(x, axis, 0 if missing else count)
    if missing:
        x = jnp.pad(x, [(0, missing if i == axis else 0) for i in range(x.ndim)])
    return x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])


def _merged(blocks: jax.Array, axis: int, like: jax.Array) -> jax.Array:
    """The blocks as an array with the shape of `like`, without the padding."""
    merged = blocks.reshape(*blocks.shape[:axis], -1, *blocks.shape[axis + 2 :])
    whole = jax.lax.slice_in_dim(merged, 0, max(like.shape, default=1), axis=axis)
    return laid_out_like(whole.reshape(like.shape), like)
