"""The chapter's network against its formula."""

import chex
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from jaxopt_cards import layers
from jaxopt_cards.selection import path_names


def model(**kwargs):
    return layers.MLP(4, 3, units=(6, 5), rngs=nnx.Rngs(0), **kwargs)


def test_equals_the_formula():
    net, x = model(), jax.random.normal(jax.random.key(0), (7, 4))
    p = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    for index in (1, 2):
        layer = p[f"hidden{index}"]
        x_next = jax.nn.elu(x @ layer["kernel"] + layer["bias"][None])
        chex.assert_trees_all_close(net.features(net_input := x, 0), net_input)
        if index == 1:
            first, inputs = x_next, x
        x = x_next
    chex.assert_trees_all_close(net.features(inputs, 1), first, rtol=1e-5)
    chex.assert_trees_all_close(net.features(inputs), x, rtol=1e-5)
    expected = x @ p["logits"]["kernel"] + p["logits"]["bias"][None]
    chex.assert_trees_all_close(net(inputs), expected, rtol=1e-5)


def test_names():
    assert path_names(nnx.state(model(), nnx.Param)) == [
        f"{layer}/{array}"
        for layer in ("hidden1", "hidden2", "logits")
        for array in ("bias", "kernel")
    ]


def test_initial_weights_are_hes():
    kernel = layers.MLP(1000, 5, units=(400,), rngs=nnx.Rngs(0)).hidden1.kernel
    assert float(jnp.std(kernel[...])) == pytest.approx((2 / 1000) ** 0.5, rel=0.02)


def test_dropout_acts_in_training_only():
    net, x = model(dropout_rate=0.5), jnp.ones((7, 4))
    net.eval()
    chex.assert_trees_all_equal(net(x), net(x))
    net.train()
    assert not jnp.allclose(net(x), net(x))


def test_models_of_one_shape_have_equal_graphs():
    graphs = [nnx.split(layers.MLP(4, 3, rngs=nnx.Rngs(seed)))[0] for seed in (0, 1)]
    assert graphs[0] == graphs[1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: layers.MLP(0, 3, rngs=nnx.Rngs(0)),
            "MLP: in_features must be a whole number >= 1",
        ),
        (lambda: layers.MLP(4, 2.5, rngs=nnx.Rngs(0)), "MLP: out_features must be a whole number"),
        (lambda: layers.MLP(4, 3, units=(5, -1), rngs=nnx.Rngs(0)), "each of units must be"),
        (lambda: model(dropout_rate=1.0), r"MLP: dropout_rate must lie in \[0, 1\), got 1.0"),
        (lambda: model().features(jnp.ones((1, 4)), 3), "upto must be at most 2, got 3"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
