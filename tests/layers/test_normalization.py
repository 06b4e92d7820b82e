"""The options of batch normalisation, and what they change in an MLP."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx

from jaxopt_cards import layers, transfer
from jaxopt_cards.core.paths import path_names
from jaxopt_cards.transfer.model_files import built, settings_of

CHAPTER = layers.BatchNorm(momentum=0.9, epsilon=1e-3, on_logits=True)
X = jax.random.normal(jax.random.key(0), (50, 4)) * 3 + 1


def model(batch_norm, **kwargs):
    return layers.MLP(4, 3, units=(6, 5), batch_norm=batch_norm, rngs=nnx.Rngs(0), **kwargs)


def normalised(x, epsilon=1e-5):
    return (x - x.mean(0, keepdims=True)) / jnp.sqrt(x.var(0, keepdims=True) + epsilon)


def test_true_is_the_default_options():
    plain, same = model(True), model(layers.BatchNorm())
    assert nnx.split(plain)[0] == nnx.split(same)[0]
    chex.assert_trees_all_equal(plain(X), same(X))
    by_momentum = model(True, batch_norm_momentum=0.9)
    assert by_momentum.batch_norm == layers.BatchNorm(0.9)


def test_numbers_of_the_chapter_and_normalised_logits():
    net = model(CHAPTER)
    x = X
    for index in (1, 2):
        dense = getattr(net, f"hidden{index}")
        assert dense.bias is None
        x = jax.nn.elu(normalised(x @ dense.kernel[...], 1e-3))
    logits = x @ net.logits.kernel[...]
    chex.assert_trees_all_close(net(X), normalised(logits, 1e-3), rtol=1e-3, atol=1e-5)
    chex.assert_trees_all_close(net.logits_norm.mean[...], 0.1 * logits.mean(0), rtol=1e-3)
    assert "logits/bias" not in path_names(nnx.state(net, nnx.Param))


def test_after_the_activation_biases_stay_and_outputs_are_normalised():
    net = model(layers.BatchNorm(before_activation=False))
    net.hidden1.bias[...] = jnp.arange(6.0)
    first = jax.nn.elu(X @ net.hidden1.kernel[...] + net.hidden1.bias[...][None])
    chex.assert_trees_all_close(net.features(X, 1), normalised(first), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [CHAPTER, layers.BatchNorm(before_activation=False)])
def test_options_survive_transfer_and_a_file(options):
    net = model(options)
    changed = [
        transfer.replace_head(net, 7, rngs=nnx.Rngs(1)),
        transfer.drop_layers(net, 1, 7, rngs=nnx.Rngs(1)),
        transfer.insert_layers(net, (8,), 7, rngs=nnx.Rngs(1)),
        built(settings_of(net) | {"out_features": 7}),
    ]
    for each in changed:
        assert each.batch_norm == options
        assert each(X).shape == (50, 7)
        assert hasattr(each, "logits_norm") == options.on_logits


def test_pretraining_normalises_where_the_model_does():
    net = model(layers.BatchNorm(before_activation=False))
    trained, _ = transfer.pretrain_autoencoder(
        net, optax.sgd(0.1), X, epochs=1, batch_size=50, progress=False
    )
    trained.train()
    out = trained.features(X, 1)
    shift, scale = trained.hidden1_norm.bias[...], trained.hidden1_norm.scale[...]
    chex.assert_trees_all_close(out.mean(0), shift, atol=1e-4)
    chex.assert_trees_all_close(out.std(0), scale, rtol=1e-2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.BatchNorm(1.0), r"BatchNorm: momentum must lie in \[0, 1\)"),
        (lambda: layers.BatchNorm(epsilon=0.0), "BatchNorm: epsilon must lie"),
        (lambda: layers.BatchNorm(on_logits=1), "BatchNorm: on_logits must be True or False"),
        (lambda: model("yes"), "MLP: batch_norm must be True, False or a BatchNorm, got 'yes'"),
        (
            lambda: model(CHAPTER, batch_norm_momentum=0.5),
            "MLP: batch_norm_momentum must be left out where batch_norm is a BatchNorm, got 0.5",
        ),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
