"""Stochastic pooling against loops over windows."""

import itertools

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings

from jaxopt_cards import layers


def by_loops(x, window_shape, strides, pooled):
    """The function of each window, found by walking over them."""
    places = [
        range(0, n - size + 1, stride)
        for n, size, stride in zip(x.shape[1:-1], window_shape, strides, strict=True)
    ]
    out = np.zeros((x.shape[0], *(len(starts) for starts in places), x.shape[-1]))
    for b, c in itertools.product(range(x.shape[0]), range(x.shape[-1])):
        for at in itertools.product(*(range(len(starts)) for starts in places)):
            corner = [starts[i] for starts, i in zip(places, at, strict=True)]
            window = tuple(slice(i, i + size) for i, size in zip(corner, window_shape, strict=True))
            out[(b, *at, c)] = pooled(x[(b, *window, c)].ravel(), (b, *at, c))
    return out


@st.composite
def poolings(draw):
    dimensions = draw(st.integers(1, 3))
    window = tuple(draw(st.integers(1, 3)) for _ in range(dimensions))
    strides = tuple(draw(st.integers(1, 3)) for _ in range(dimensions))
    inside = tuple(size + draw(st.integers(0, 3)) for size in window)
    rng = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))
    x = np.maximum(rng.normal(size=(2, *inside, 2)), 0).astype(np.float32)
    return x, window, strides


@settings(max_examples=25, deadline=None)
@given(pooling=poolings())
def test_evaluation_is_the_weighted_mean(pooling):
    def mean(a, place):
        return (a**2).sum() / a.sum() if a.sum() else 0.0

    expected = by_loops(*pooling, mean)
    np.testing.assert_allclose(layers.stochastic_pool(*pooling), expected, rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(pooling=poolings(), seed=st.integers(0, 2**31 - 1))
def test_training_draws_from_the_window_never_a_zero_beside_others(pooling, seed):
    drawn = np.asarray(layers.stochastic_pool(*pooling, key=jax.random.key(seed)))

    def is_possible(a, place):
        return drawn[place] in (a[a > 0] if a.any() else a)

    assert by_loops(*pooling, is_possible).all()


def test_draws_have_their_probabilities():
    x = jnp.tile(jnp.array([1.0, 0.0, 2.0, 5.0]), 20_000).reshape(1, -1, 1)
    drawn = layers.stochastic_pool(x, (4,), key=jax.random.key(0)).ravel()
    shares = [float((drawn == value).mean()) for value in (1.0, 0.0, 2.0, 5.0)]
    np.testing.assert_allclose(shares, [0.125, 0.0, 0.25, 0.625], atol=0.02)


def test_gradient_goes_to_the_activation_drawn():
    x = jnp.array([1.0, 4.0, 2.0, 0.0, 0.0, 0.0]).reshape(1, 6, 1)
    key = jax.random.key(1)
    pooled = layers.stochastic_pool(x, (3,), key=key).ravel()
    gradient = jax.grad(lambda x: layers.stochastic_pool(x, (3,), key=key).sum())(x).ravel()
    np.testing.assert_array_equal(gradient[:3], x.ravel()[:3] == pooled[0])
    assert gradient[3:].sum() == 1


def test_gradient_of_the_mean_is_finite_where_all_is_zero():
    gradient = jax.grad(lambda x: layers.stochastic_pool(x, (2,)).sum())(jnp.zeros((1, 4, 1)))
    chex.assert_tree_all_finite(gradient)


@pytest.mark.parametrize("key", [None, jax.random.key(0)])
def test_a_negative_activation_gives_nan_in_its_window_only(key):
    x = jnp.array([1.0, -0.1, 2.0, 3.0]).reshape(1, 4, 1)
    assert jnp.isnan(layers.stochastic_pool(x, (2,), key=key)).ravel().tolist() == [True, False]


@pytest.mark.parametrize("key", [None, jax.random.key(0)])
def test_large_activations_do_not_overflow_and_dtypes_stay(key):
    x = jnp.full((1, 4, 1), 3e4, jnp.bfloat16)
    pooled = layers.stochastic_pool(x, (2,), key=key)
    assert pooled.dtype == jnp.bfloat16
    chex.assert_trees_all_close(pooled, x[:, :2])
    for value, dtype in ((8e37, "float32"), (3e4, "float16")):  # eight of them overflow
        large = jnp.full((1, 8, 1), value, dtype)
        pooled = layers.stochastic_pool(large, (8,), key=key)
        np.testing.assert_allclose(pooled, large[:, :1], rtol=1e-3)


def test_the_layer_is_random_in_training_only():
    x = jax.random.uniform(jax.random.key(0), (3, 8, 8, 2))
    pool = layers.StochasticPool((3, 3), (2, 2), rngs=nnx.Rngs(0))
    assert not jnp.array_equal(pool(x), pool(x))
    pool.eval()
    chex.assert_trees_all_equal(pool(x), layers.stochastic_pool(x, (3, 3), (2, 2)))


@pytest.mark.parametrize(
    ("window_shape", "strides", "message"),
    [
        ((2, 2), None, r"stochastic_pool: window_shape must fit into x.shape\[1:-1\] = \(4,\)"),
        ((5,), None, "stochastic_pool: window_shape must fit"),
        ((0,), None, "each of window_shape must be a whole number >= 1, got 0"),
        ((2,), (1.5,), "each of strides must be a whole number >= 1, got 1.5"),
        ((2,), (1, 1), r"strides must be 1 numbers, as window_shape is, got \(1, 1\)"),
    ],
)
def test_bad_arguments(window_shape, strides, message):
    with pytest.raises(ValueError, match=message):
        layers.stochastic_pool(jnp.ones((1, 4, 1)), window_shape, strides)


def test_a_bad_window_is_refused_when_the_layer_is_made():
    with pytest.raises(ValueError, match="StochasticPool: each of strides must be"):
        layers.StochasticPool((2,), (0,), rngs=nnx.Rngs(0))
