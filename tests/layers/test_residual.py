"""The residual MLP against its formula, and in transfer."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from jaxopt_cards import layers, transfer

X = jax.random.normal(jax.random.key(0), (7, 4))


def model(**kwargs):
    return layers.ResidualMLP(4, 3, (6, 6, 5), rngs=nnx.Rngs(0), **kwargs)


def test_equals_the_formula():
    net, x = model(), X
    for index, skip in ((1, False), (2, True), (3, False)):
        layer = getattr(net, f"hidden{index}")
        new = jax.nn.elu(x @ layer.kernel[...] + layer.bias[...][None])
        x = x + new / 3**0.5 if skip else new
        chex.assert_trees_all_close(net.features(X, index), x, rtol=1e-5)
    chex.assert_trees_all_close(net(X), net.logits(x), rtol=1e-5)


def test_has_the_weights_of_an_mlp():
    plain = layers.MLP(4, 3, (6, 6, 5), rngs=nnx.Rngs(0))
    chex.assert_trees_all_equal(nnx.state(model()), nnx.state(plain))


def test_skip_connections_survive_transfer():
    net = model(batch_norm=True, dropout_rate=[0.0, 0.5, 0.5])
    net.eval()
    lower = transfer.drop_layers(net, 2, 7, rngs=nnx.Rngs(1))
    assert not hasattr(lower, "hidden3_dropout")
    lower.eval()
    chex.assert_trees_all_equal(lower.features(X, 2), net.features(X, 2))
    train = (jnp.zeros((20, 4)), jnp.arange(20) % 3)
    result = transfer.reuse_layers(
        net, optax.sgd(0.1), 3, train=train, valid=train, depths=[2], epochs=1, batch_size=10
    )
    assert isinstance(result.model, layers.ResidualMLP)
    chex.assert_trees_all_equal(result.model.hidden2.kernel[...], net.hidden2.kernel[...])


def test_layers_are_not_pretrained_one_by_one():
    with pytest.raises(ValueError, match=r"^pretrain_autoencoder: model must have no skip conn"):
        transfer.pretrain_autoencoder(model(), optax.sgd(0.1), X, epochs=1)
