"""Dropout and DropConnect: Flax's mathematics, with a rate that is an array."""

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings

from jaxopt_cards import layers
from jaxopt_cards.core.paths import path_names

X = jax.random.normal(jax.random.key(0), (50, 40))


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_equals_flax(rate):
    ours = layers.Dropout(rate, rngs=nnx.Rngs(3))
    theirs = nnx.Dropout(rate, rngs=nnx.Rngs(3))
    for _ in range(2):
        chex.assert_trees_all_close(ours(X), theirs(X), rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(rate=st.floats(0.01, 0.95), seed=st.integers(0, 2**31 - 1))
def test_drops_its_share_and_keeps_the_mean(rate, seed):
    y = np.asarray(layers.Dropout(rate, rngs=nnx.Rngs(seed))(jnp.ones(20_000)))
    kept = y != 0
    # Six standard deviations of the share.
    assert abs(1 - kept.mean() - rate) <= 6 * (rate * (1 - rate) / y.size) ** 0.5
    np.testing.assert_allclose(y[kept], 1 / (1 - rate), rtol=1e-5)


def test_a_rate_of_zero_gives_the_bits_of_no_dropout():
    chex.assert_trees_all_equal(layers.Dropout(0.0, rngs=nnx.Rngs(0))(X), X)
    dense = layers.DropConnect(40, 3, 0.0, rngs=nnx.Rngs(0))
    chex.assert_trees_all_equal(dense(X), nnx.Linear.__call__(dense, X))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_keeps_the_dtype(dtype):
    assert layers.Dropout(0.5, rngs=nnx.Rngs(0))(X.astype(dtype)).dtype == dtype


def test_keeps_the_dtype_of_64_bits(x64):
    assert layers.Dropout(0.5, rngs=nnx.Rngs(0))(X.astype(jnp.float64)).dtype == jnp.float64


@pytest.mark.parametrize(
    "make",
    [
        lambda: layers.Dropout(0.5, rngs=nnx.Rngs(0)),
        lambda: layers.DropConnect(40, 3, 0.5, rngs=nnx.Rngs(0)),
    ],
)
def test_acts_in_training_only(make):
    layer = make()
    assert not jnp.array_equal(layer(X), layer(X))
    quiet = nnx.view(layer, deterministic=True)
    layer.eval()
    chex.assert_trees_all_equal(layer(X), layer(X), quiet(X))
    layer.train()
    assert not jnp.array_equal(layer(X), layer(X))


def test_models_of_all_rates_share_a_graph_and_run_side_by_side():
    rates = jnp.array([0.0, 0.2, 0.6])

    def arrays(rate):
        return nnx.split(layers.MLP(40, 3, units=(8,), dropout_rate=rate, rngs=nnx.Rngs(0)))

    graphs, states = zip(*(arrays(rate) for rate in rates), strict=True)
    assert graphs[0] == graphs[1] == graphs[2]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    together = jax.vmap(lambda state: nnx.merge(graphs[0], state)(X))(stacked)
    made_inside = jax.vmap(lambda rate: nnx.merge(*arrays(rate))(X))(rates)
    for index, state in enumerate(states):
        alone = nnx.merge(graphs[0], state)(X)
        chex.assert_trees_all_close(together[index], alone, atol=1e-5)
        chex.assert_trees_all_close(made_inside[index], alone, atol=1e-5)


def test_the_rate_can_be_set_without_compiling_again():
    graph, state = nnx.split(layers.Dropout(0.1, rngs=nnx.Rngs(0)))
    traces = []

    @jax.jit
    def kept(state):
        traces.append(1)
        return jnp.mean(nnx.merge(graph, state)(jnp.ones(10_000)) != 0)

    assert float(kept(state)) == pytest.approx(0.9, abs=0.03)
    state["rate"][...] = jnp.float32(0.8)
    assert float(kept(state)) == pytest.approx(0.2, abs=0.03)
    assert len(traces) == 1


def test_drop_connect_drops_weights_and_keeps_the_mean():
    layer = layers.DropConnect(40, 30, 0.25, rngs=nnx.Rngs(0))
    layer.bias[...] = jnp.arange(30.0)
    kernel = np.asarray(layer.kernel[...])
    # One-hot inputs show the kernel that was used.
    used = np.asarray(layer(jnp.eye(40))) - np.arange(30.0)
    kept = np.isclose(used, kernel / 0.75, atol=1e-5)
    assert np.all(kept | (np.abs(used) < 1e-5))
    assert kept.mean() == pytest.approx(0.75, abs=0.06)
    layer.eval()
    expected = np.asarray(X) @ kernel + np.arange(30.0)
    chex.assert_trees_all_close(layer(X), expected.astype(np.float32), rtol=1e-4, atol=1e-4)


def test_dropped_weights_have_no_gradient():
    layer = layers.DropConnect(4, 3, 0.5, rngs=nnx.Rngs(0))
    graph, params, rest = nnx.split(layer, nnx.Param, ...)

    def outputs(params):
        return nnx.merge(graph, params, rest, copy=True)(jnp.eye(4))

    used = np.asarray(outputs(params)) != 0
    gradient = jax.grad(lambda params: outputs(params).sum())(params)
    np.testing.assert_allclose(gradient["kernel"][...], used / 0.5)
    assert used.any()
    assert not used.all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda r: layers.Dropout(1.0, rngs=r), r"Dropout: rate must lie in \[0, 1\), got 1.0"),
        (lambda r: layers.Dropout("a", rngs=r), "Dropout: rate must be a number"),
        (lambda r: layers.Dropout(0.5, rngs=0), "Dropout: rngs must be an nnx.Rngs, got 0"),
        (
            lambda r: layers.Dropout(0.5, rngs=r)(jnp.ones(3, int)),
            "Dropout: the dtype of x must be a dtype of floating point",
        ),
        (lambda r: layers.DropConnect(0, 3, 0.5, rngs=r), "DropConnect: in_features must be"),
        (lambda r: layers.DropConnect(3, 1.5, 0.5, rngs=r), "DropConnect: out_features must be"),
        (lambda r: layers.DropConnect(3, 3, -0.1, rngs=r), "DropConnect: rate must lie in"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make(nnx.Rngs(0))


def test_a_list_has_a_rate_for_each_place():
    def model(rates):
        return layers.MLP(4, 3, (5, 6), dropout_rate=rates, rngs=nnx.Rngs(0))

    net, x = model([0.0, 0.5]), jnp.ones((50, 4))
    assert jnp.array_equal(net.features(x, 2), net.features(x, 2))
    assert not jnp.array_equal(net(x), net(x))
    rates = {name: float(net_rate) for name, net_rate in _rates(model([0.25, 0.5])).items()}
    assert rates == {"hidden2_dropout/rate": 0.25, "logits_dropout/rate": 0.5}
    with pytest.raises(ValueError, match="MLP: dropout_rate must have 2 rates, for the inputs of"):
        model([0.5])
    with pytest.raises(ValueError, match=r"MLP: dropout_rate must lie in \[0, 1\)"):
        model([0.5, 1.0])


def _rates(model):
    state = nnx.state(model, layers.Rate)
    return dict(zip(path_names(state), jax.tree.leaves(state), strict=True))


def test_scaling_in_training_agrees_with_keeping_a_share_in_evaluation():
    """The chapter's form: drop without scaling, and multiply by the keep probability later."""
    rate, x = 0.3, jax.random.normal(jax.random.key(1), (1, 50))
    dropout = layers.Dropout(rate, rngs=nnx.Rngs(0))
    kernel = jax.random.normal(jax.random.key(2), (50, 4))
    scaled = (dropout(jnp.tile(x, (20_000, 1))) @ kernel).mean(0)
    masks = jax.random.bernoulli(jax.random.key(3), 1 - rate, (20_000, 50))
    unscaled = (jnp.where(masks, x, 0.0) @ kernel).mean(0)
    np.testing.assert_allclose(scaled, (x @ kernel)[0], atol=0.2)
    # Without scaling, evaluation multiplies the weights by the keep probability instead.
    np.testing.assert_allclose(unscaled, (x @ kernel)[0] * (1 - rate), atol=0.2)
