"""Optimizer state in fewer bits."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards._checks import HyperparameterError, check_count, check_tx
from jaxopt_cards._named_errors import wrapper_named_in_errors

PyTree = Any

# The 127 magnitudes of the 8-bit code lie a fifth of an octave apart and span 25 octaves: fine
# enough for a first moment (7 % from its neighbour at most), wide enough for a second.
STEPS_AN_OCTAVE = 5
LEVELS = 127


class Rounded(NamedTuple):
    """A float32 array in 16 bits."""

    values: jax.Array  # the array's shape, bfloat16


class Coded(NamedTuple):
    """A float32 array in 8 bits, and a scale a block."""

    codes: jax.Array  # the array's shape, int8: sign, and 0 for zero or 1..127 for a magnitude
    scales: jax.Array  # shape (blocks,), float32: largest magnitude in each block


class CompressedState(NamedTuple):
    """State of `compress_state`."""

    key: jax.Array  # uint32: data of the key
    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    inner_state: PyTree  # the inner state, its large float32 arrays as `Rounded` or `Coded`


@wrapper_named_in_errors
def compress_state(
    inner: optax.GradientTransformation,
    bits: int = 16,
    block_size: int = 256,
    min_size: int = 4096,
    key: jax.Array | None = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Stores the state of any optimizer in 16 or 8 bits a number.

    Between steps each large float32 array of the inner state is bfloat16, or 8-bit codes with a
    scale for each block; it is float32 again while the step is computed. Rounding is stochastic, so
    that small changes add up on average instead of being lost each time. Numbers that are not zero
    never become zero, since a second moment of zero would make a step infinite.

    Equation:
        .. math:: s_t = Q(\mathrm{update}(g_t, Q^{-1}(s_{t-1}))), \qquad
            \mathbb{E}\,[Q^{-1}(Q(x))] = x

        with 8 bits :math:`Q^{-1}(c) = a\, \mathrm{sign}(c)\, 2^{(|c| - 127) / 5}`, :math:`a` the
        largest magnitude of the block; below :math:`a \cdot 2^{-25.2}` magnitudes are rounded up.

    Args:
        inner: any transformation, ours or Optax's.
        bits: 16 (bfloat16) or 8.
        block_size: whole number > 0; numbers that share a scale, for 8 bits.
        min_size: whole number > 0; arrays with fewer elements stay as they are.
        key: a JAX random key; the same key gives the same bits. Default: `jax.random.key(0)`.

    Returns:
        An `optax.GradientTransformationExtraArgs`.

    State:
        `CompressedState`: `key`, `count`, and `inner_state`, where arrays of 4 bytes a number take
        2, or 1 and 4 a block.

    Raises:
        ValueError: `inner` is no transformation, `bits` neither 16 nor 8, another number not a
            whole number > 0.

    References:
        Tim Dettmers, Mike Lewis, Sam Shleifer, Luke Zettlemoyer (2022), 8-bit Optimizers via
        Block-wise Quantization.

    Use when: the optimizer's state does not fit beside model and data.
    Avoid when: it fits: coding costs time; in 8 bits also around `lookahead` or `polyak_average`.

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
        raise HyperparameterError("compress_state", "bits", "be 16 or 8", bits)
    check_tx("compress_state", inner, "inner")
    check_count("compress_state", "block_size", block_size)
    check_count("compress_state", "min_size", min_size)
    start = jax.random.key(0) if key is None else key
    if not jnp.issubdtype(jnp.result_type(start), jax.dtypes.prng_key):
        raise HyperparameterError("compress_state", "key", "be made by jax.random.key", key)
    impl = jax.random.key_impl(start)
    inner = optax.with_extra_args_support(inner)

    def compressed(key, state):
        leaves = jax.tree.leaves(state)
        for index, leaf in enumerate(leaves):
            if jnp.result_type(leaf) == jnp.float32 and jnp.size(leaf) >= min_size:
                leaf_key = jax.random.fold_in(key, index)
                leaves[index] = (
                    Rounded(_to_bfloat16(leaf_key, leaf))
                    if bits == 16
                    else _encoded(leaf_key, leaf, block_size)
                )
        return jax.tree.unflatten(jax.tree.structure(state), leaves)

    def expanded(leaf):
        if isinstance(leaf, Rounded):
            return leaf.values.astype(jnp.float32)
        return _decoded(leaf, block_size) if isinstance(leaf, Coded) else leaf

    def init(params):
        state = compressed(start, inner.init(params))
        return CompressedState(jax.random.key_data(start), jnp.zeros((), jnp.int32), state)

    def update(updates, state, params=None, **extra_args):
        count = optax.safe_increment(state.count)
        now = jax.random.fold_in(jax.random.wrap_key_data(state.key, impl=impl), count)
        inner_state = jax.tree.map(expanded, state.inner_state, is_leaf=_is_compressed)
        updates, inner_state = inner.update(updates, inner_state, params, **extra_args)
        return updates, CompressedState(state.key, count, compressed(now, inner_state))

    return optax.GradientTransformationExtraArgs(init, update)


def _is_compressed(node: Any) -> bool:
    return isinstance(node, Rounded | Coded)


def _to_bfloat16(key: jax.Array, x: jax.Array) -> jax.Array:
    """Stochastic rounding: random bits are added below the last one that is kept."""
    pattern = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    kept = ((pattern + noise) >> 16).astype(jnp.uint16)
    rounded = jax.lax.bitcast_convert_type(kept, jnp.bfloat16)
    # Infinities and NaN have no neighbours to be rounded to.
    return jnp.where(jnp.isfinite(x), rounded, x.astype(jnp.bfloat16))


def _blocks(x: jax.Array, block_size: int) -> jax.Array:
    """The elements in rows of `block_size`, the last row filled up with zeros."""
    return jnp.pad(x.ravel(), (0, -x.size % block_size)).reshape(-1, block_size)


def _encoded(key: jax.Array, x: jax.Array, block_size: int) -> Coded:
    scales = jnp.max(jnp.abs(_blocks(x, block_size)), axis=1)
    size = jnp.abs(x) / _each(jnp.where(scales == 0, 1, scales), x, block_size)
    # The level below, from 1; then up to the next with the probability that keeps the mean.
    level = jnp.clip(jnp.floor(LEVELS + STEPS_AN_OCTAVE * jnp.log2(size)), 1, LEVELS)
    low, high = _magnitude(level), _magnitude(level + 1)
    up = (size - low) / (high - low) > jax.random.uniform(key, x.shape)
    level = jnp.minimum(level + up.astype(level.dtype), LEVELS)
    return Coded((jnp.sign(x) * level).astype(jnp.int8), scales)


def _decoded(coded: Coded, block_size: int) -> jax.Array:
    codes = coded.codes.astype(jnp.float32)
    scales = _each(coded.scales, codes, block_size)
    return jnp.sign(codes) * _magnitude(jnp.abs(codes)) * scales


def _magnitude(level: jax.Array) -> jax.Array:
    return jnp.exp2((level - LEVELS) / STEPS_AN_OCTAVE)


def _each(scales: jax.Array, x: jax.Array, block_size: int) -> jax.Array:
    """For each element of `x` the scale of its block."""
    return jnp.repeat(scales, block_size)[: x.size].reshape(x.shape)
