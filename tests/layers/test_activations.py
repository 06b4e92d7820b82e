"""Randomised leaky ReLU: its range, its mean, its switch."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings

from jaxopt_cards import layers

X = jnp.concatenate([jnp.full(5_000, -2.0), jnp.array([0.0, 3.0])])


@settings(max_examples=20, deadline=None)
@given(
    slopes=st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted),
    seed=st.integers(0, 2**31 - 1),
)
def test_slopes_fill_their_range(slopes, seed):
    lower, upper = slopes
    y = np.asarray(layers.rrelu(X, jax.random.key(seed), lower, upper))
    np.testing.assert_array_equal(y[-2:], X[-2:])
    found = y[:-2] / -2
    assert lower - 1e-6 <= found.min() <= lower + 0.01
    assert upper - 0.01 <= found.max() <= upper + 1e-6
    deviation = (upper - lower) / 12**0.5
    assert abs(found.mean() - (lower + upper) / 2) <= 6 * deviation / 5_000**0.5 + 1e-5


def test_without_a_key_the_slope_is_the_mean():
    np.testing.assert_allclose(layers.rrelu(jnp.array([-48.0, 5.0])), [-11.0, 5.0], rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("key", [None, jax.random.key(0)])
def test_keeps_the_dtype(dtype, key):
    assert layers.rrelu(X.astype(dtype), key).dtype == dtype


def test_gradient_is_the_slope():
    key, x = jax.random.key(0), jnp.array([-1.0, -2.0, 3.0])
    slopes = jax.grad(lambda x: layers.rrelu(x, key).sum())(x)
    np.testing.assert_allclose(slopes * x, layers.rrelu(x, key), rtol=1e-6)


def test_the_layer_is_random_in_training_only():
    layer = layers.RReLU(0.1, 0.5, rngs=nnx.Rngs(0))
    assert not jnp.array_equal(layer(X), layer(X))
    layer.eval()
    np.testing.assert_allclose(layer(X), jnp.where(X < 0, 0.3 * X, X), rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.rrelu(X, None, -0.1), r"rrelu: lower must lie in \[0, 1\]"),
        (lambda: layers.rrelu(X, None, 0.1, 3.0), r"rrelu: upper must lie in \[0, 1\]"),
        (lambda: layers.RReLU(0.5, 0.2, rngs=nnx.Rngs(0)), "RReLU: lower must be at most upper"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


E = np.exp
FORMULAS = {  # as the chapter writes them
    "logistic": lambda x: 1 / (1 + E(-x)),
    "tanh": lambda x: (E(x) - E(-x)) / (E(x) + E(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.maximum(0.01 * x, x),
    "elu": lambda x: np.where(x >= 0, x, E(np.minimum(x, 0)) - 1),
    "selu": lambda x: 1.050701 * np.where(x >= 0, x, 1.673263 * (E(np.minimum(x, 0)) - 1)),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_functions_are_their_formulas_and_keep_the_dtype(name):
    x = np.linspace(-5, 4, 37).astype(np.float32)
    function = getattr(layers, name)
    np.testing.assert_allclose(function(jnp.asarray(x)), FORMULAS[name](x), rtol=1e-5, atol=1e-6)
    assert function(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_slopes_and_limits_are_arguments():
    x = jnp.array([-10.0, 2.0])
    np.testing.assert_allclose(layers.leaky_relu(x, 0.2), [-2.0, 2.0])
    np.testing.assert_allclose(layers.elu(100 * x, 1.5), [-1.5, 200.0])
    np.testing.assert_allclose(layers.prelu(x, 0.25), [-2.5, 2.0])
    slope = jax.grad(lambda slope: layers.prelu(x, slope).sum())(0.25)
    np.testing.assert_allclose(slope, -10.0)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_function_by_name_or_by_itself_makes_the_same_model(name):
    by_name = layers.MLP(3, 2, (4,), name, rngs=nnx.Rngs(0))
    by_itself = layers.MLP(3, 2, (4,), getattr(layers, name), rngs=nnx.Rngs(0))
    assert by_itself.activation is by_name.activation


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.leaky_relu(X, -0.1), r"leaky_relu: negative_slope must lie in \[0, 1\]"),
        (lambda: layers.elu(X, 0.0), "elu: alpha must lie"),
        (lambda: layers.relu(jnp.arange(3)), "relu: x must be a dtype of floating point"),
    ],
)
def test_numbers_of_functions_have_ranges(call, message):
    with pytest.raises(ValueError, match=message):
        call()
