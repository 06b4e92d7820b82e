"""Penalties against their formulas, and against the stages of a chain with the same gradient."""

import chex
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings

import jaxopt_cards as jc
from jaxopt_cards import layers

STRENGTHS = st.just(0.0) | st.floats(1e-6, 1e3)


def params(seed=0):
    model = layers.MLP(4, 3, units=(6, 5), batch_norm=True, rngs=nnx.Rngs(seed))
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def kernels(tree):
    return [np.asarray(layer["kernel"]) for layer in tree.values() if "kernel" in layer]


@settings(max_examples=20, deadline=None)
@given(first=STRENGTHS, second=STRENGTHS, seed=st.integers(0, 100))
def test_equal_their_formulas(first, second, seed):
    tree = params(seed)
    absolute = first * sum(np.abs(w).sum() for w in kernels(tree))
    squares = second * sum((w**2).sum() for w in kernels(tree))
    np.testing.assert_allclose(layers.l1(first)(tree), absolute, rtol=1e-5)
    np.testing.assert_allclose(layers.l2(second)(tree), squares, rtol=1e-5)
    both = layers.elastic_net(first, second)(tree)
    np.testing.assert_allclose(both, absolute + squares, rtol=1e-5)


@pytest.mark.parametrize(
    ("penalty", "stage"),
    [
        (layers.l1(0.3), jc.add_l1_decay(0.3, mask="kernel")),
        (layers.l2(0.3), jc.add_decayed_weights(2 * 0.3, "kernel")),
        (layers.elastic_net(0.2, 0.3), jc.add_elastic_net(0.2, 2 * 0.3, mask="kernel")),
    ],
)
def test_gradients_are_those_of_the_stages_in_the_docstrings(penalty, stage):
    tree = params()
    tree["hidden1"]["kernel"] = tree["hidden1"]["kernel"].at[0].set(0.0)
    zeros = jax.tree.map(jnp.zeros_like, tree)
    expected, _ = stage.update(zeros, stage.init(tree), tree)
    chex.assert_trees_all_close(jax.grad(penalty)(tree), expected, rtol=1e-6)


def test_gradients_of_one_array():
    weights = {"kernel": jnp.array([3.0, 0.0, -1.5])}
    gradient = jax.grad(layers.elastic_net(0.5, 0.25))(weights)["kernel"]
    np.testing.assert_allclose(gradient, [0.5 + 1.5, 0.0, -0.5 - 0.75], rtol=1e-6)


def test_the_same_for_a_model_its_state_and_its_dictionary():
    model = layers.MLP(4, 3, units=(6, 5), rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    for pattern in ("kernel", "kernel$", "^hidden2/kernel$"):
        penalty = layers.l2(1.0, pattern)
        values = [float(penalty(tree)) for tree in (model, state, nnx.to_pure_dict(state))]
        assert values[0] == values[1] == values[2] > 0


def test_strengths_may_be_traced():
    tree = params()
    many = jax.vmap(lambda a, b: layers.elastic_net(a, b)(tree))(jnp.arange(3.0), jnp.ones(3))
    expected = [layers.l1(a)(tree) + layers.l2(1.0)(tree) for a in (0.0, 1.0, 2.0)]
    np.testing.assert_allclose(many, expected, rtol=1e-6)


def test_sums_in_float32_at_least():
    half = layers.l1(1.0)({"kernel": jnp.full(10_000, 1.0, jnp.bfloat16)})
    assert (half.dtype, float(half)) == (jnp.float32, 10_000)


def test_sums_in_float64(x64):
    weights = np.random.default_rng(0).normal(size=100)
    total = layers.l2(0.1)({"kernel": jnp.asarray(weights)})
    np.testing.assert_allclose(total, 0.1 * (weights**2).sum(), rtol=1e-14)


def test_complex_weights_have_real_penalties():
    weights = {"kernel": jnp.array([3 + 4j])}
    assert float(layers.l1(1.0)(weights)) == pytest.approx(5)
    assert float(layers.l2(1.0)(weights)) == pytest.approx(25)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.l1(-1.0), r"l1: strength must lie in \[0, inf\), got -1.0"),
        (lambda: layers.l2(float("nan")), "l2: strength must lie in"),
        (lambda: layers.elastic_net(0.0, -1.0), "elastic_net: l2 must lie in"),
        (lambda: layers.l1(1.0, "("), "l1: '\\(' is not a regular expression"),
        (
            lambda: layers.l2(1.0, "conv")(params()),
            "l2: the pattern 'conv' matches none of the paths\n  hidden1/kernel",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
