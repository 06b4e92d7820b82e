"""Monte Carlo dropout against the exact mean and spread of a linear model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_cards import layers, training

X = np.asarray(jax.random.normal(jax.random.key(0), (7, 10)))


def linear(**kwargs):
    return layers.MLP(10, 3, (), rngs=nnx.Rngs(0), **kwargs)


def test_mean_and_spread_are_those_of_a_linear_model():
    rate, model = 0.4, linear(dropout_rate=0.4)
    mean, spread = training.monte_carlo_predict(model, X, passes=4000, transform=None, batch_size=4)
    kernel = np.asarray(model.logits.kernel[...])
    expected = np.sqrt(X**2 @ kernel**2 * rate / (1 - rate))
    np.testing.assert_allclose(spread, expected, rtol=0.1)
    np.testing.assert_allclose(mean, X @ kernel, atol=5 * expected.max() / 4000**0.5)


def test_only_dropout_is_in_training_mode_and_the_model_stays():
    model = layers.MLP(10, 3, (6, 6), batch_norm=True, dropout_rate=0.5, rngs=nnx.Rngs(0))
    model(jnp.asarray(X))
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.BatchStat))
    many = training.monte_carlo_predict(model, X, passes=5)
    one = training.monte_carlo_predict(model, X[:1].repeat(7, axis=0), passes=5)
    assert many.mean.shape == many.spread.shape == (7, 3)
    np.testing.assert_allclose(many.mean.sum(axis=1), 1, rtol=1e-5)
    # With statistics of the batch, equal rows would be normalised to zero.
    assert not np.allclose(one.mean[0], one.mean[1])
    after = nnx.state(model, nnx.BatchStat)
    jax.tree.map(np.testing.assert_array_equal, before, after)


def test_a_seed_gives_the_same_and_batches_have_masks_of_their_own():
    model, x = linear(dropout_rate=0.5), X[:1].repeat(6, axis=0)
    run = training.monte_carlo_predict
    first, again = (run(model, x, passes=3, batch_size=3) for _ in range(2))
    np.testing.assert_array_equal(first.mean, again.mean)
    assert not np.array_equal(first.mean, run(model, x, passes=3, batch_size=3, seed=1).mean)
    assert not np.array_equal(first.mean[:3], first.mean[3:])


def test_drop_connect_is_sampled():
    spread = training.monte_carlo_predict(
        layers.MLP(10, 3, (5,), drop_connect_rate=0.5, rngs=nnx.Rngs(0)), X, passes=5
    ).spread
    assert (spread > 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: training.monte_carlo_predict(linear(), X), "model must have a layer with dropout"),
        (lambda: training.monte_carlo_predict(linear(dropout_rate=0.5), X, passes=1), "passes"),
        (lambda: training.monte_carlo_predict(linear(dropout_rate=0.5), X[:0]), "x is empty"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=f"monte_carlo_predict: {message}"):
        call()
