"""The chapter's network against its formula."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training
from jaxopt_cards.core.paths import path_names
from jaxopt_cards.layers.activations import ACTIVATIONS

ADAM = jc.adam(0.02)


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


REGULARISED = {
    "batch_norm": True,
    "dropout_rate": 0.5,
    "input_dropout_rate": 0.2,
    "drop_connect_rate": 0.3,
    "activation": "rrelu",
}


@pytest.mark.parametrize("added", [{}, *({k: v} for k, v in REGULARISED.items()), REGULARISED])
def test_a_seed_gives_the_same_weights_whatever_is_added(added):
    net, rngs = model(**added), nnx.Rngs(0)
    for name, shape in {"hidden1": (4, 6), "hidden2": (6, 5), "logits": (5, 3)}.items():
        plain = nnx.Linear(*shape, kernel_init=layers.he_normal, rngs=rngs)
        chex.assert_trees_all_equal(getattr(net, name).kernel[...], plain.kernel[...])


def test_all_at_once_in_evaluation_equals_the_formula():
    net, inputs = model(**REGULARISED), jax.random.normal(jax.random.key(0), (7, 4))
    for index in range(3):  # some statistics to evaluate with
        net(inputs + index)
    net.eval()
    x = inputs
    for index in (1, 2):
        dense, norm = getattr(net, f"hidden{index}"), getattr(net, f"hidden{index}_norm")
        assert dense.bias is None
        x = x @ dense.kernel[...] - norm.mean[...][None]
        x = x / jnp.sqrt(norm.var[...][None] + 1e-5) + norm.bias[...][None]
        x = layers.rrelu(x)
        chex.assert_trees_all_close(net.features(inputs, index), x, rtol=1e-4, atol=1e-6)
    expected = x @ net.logits.kernel[...] + net.logits.bias[...][None]
    chex.assert_trees_all_close(net(inputs), expected, rtol=1e-4, atol=1e-6)


def test_batch_norm_normalises_by_the_batch_and_follows_it():
    net = model(batch_norm=True, batch_norm_momentum=0.75, activation=lambda x: x)
    x = jax.random.normal(jax.random.key(0), (200, 4)) * 3 + 1
    out = net.features(x, 1)
    chex.assert_trees_all_close(out.mean(axis=0), jnp.zeros(6), atol=1e-5)
    chex.assert_trees_all_close(out.std(axis=0), jnp.ones(6), rtol=1e-3)
    dense = net.hidden1(x)
    chex.assert_trees_all_close(net.hidden1_norm.mean[...], 0.25 * dense.mean(axis=0), rtol=1e-4)
    assert not hasattr(net, "logits_norm")


def test_dropout_acts_on_the_inputs_of_layers_but_the_first():
    x = jnp.ones((200, 4))
    net = model(dropout_rate=0.5, activation=lambda x: x)
    chex.assert_trees_all_equal(net.features(x, 1), net.features(x, 1))
    assert not jnp.array_equal(net.features(x, 2), net.features(x, 2))
    assert not jnp.array_equal(net(x), net(x))
    # An only layer, the output, is the first and the last.
    alone = layers.MLP(4, 3, units=(), dropout_rate=0.5, rngs=nnx.Rngs(0))
    assert not jnp.array_equal(alone(x), alone(x))


def test_input_dropout_acts_on_the_input():
    net = model(input_dropout_rate=0.5, activation=lambda x: x)
    net.hidden1.kernel[...] = jnp.eye(4, 6)
    seen = net.features(jnp.ones((50, 4)), 1)[:, :4]
    assert set(seen.ravel().tolist()) == {0.0, 2.0}
    chex.assert_trees_all_equal(net.features(seen, 0), seen)


def test_drop_connect_acts_on_kernels_of_hidden_layers():
    net = model(drop_connect_rate=0.5, activation=lambda x: x)
    kernel = net.hidden1.kernel[...]
    seen = net.features(jnp.eye(4), 1)
    assert bool(jnp.all((seen == 0) | jnp.isclose(seen, 2 * kernel)))
    assert not jnp.array_equal(seen, net.features(jnp.eye(4), 1))
    assert not isinstance(net.logits, layers.DropConnect)


def test_rates_of_zero_in_arrays_keep_their_layers_and_change_nothing():
    zero = jnp.zeros(())
    rates = dict.fromkeys(("dropout_rate", "input_dropout_rate", "drop_connect_rate"), zero)
    net, x = model(**rates), jax.random.normal(jax.random.key(0), (7, 4))
    assert sorted(nnx.to_pure_dict(nnx.state(net, layers.Rate))) == [
        "drop_connect",
        "dropout",
        "input_dropout",
    ]
    chex.assert_trees_all_close(net(x), model()(x), rtol=1e-6)


def test_activations_by_name():
    x = jnp.array([-3.0, -0.5, 0.0, 2.0])
    expected = {
        "elu": jnp.where(x > 0, x, jnp.exp(x) - 1),
        "relu": jnp.maximum(x, 0),
        "leaky_relu": jnp.maximum(x, 0.01 * x),
        "selu": 1.0507010 * jnp.where(x > 0, x, 1.6732632 * (jnp.exp(x) - 1)),
        "logistic": 1 / (1 + jnp.exp(-x)),
        "tanh": jnp.tanh(x),
        "rrelu": jnp.maximum(x, 11 / 48 * x),
        "prelu": jnp.maximum(x, 0.01 * x),
    }
    assert expected.keys() == ACTIVATIONS.keys()
    for name, values in expected.items():
        net = layers.MLP(4, 3, units=(4,), activation=name, rngs=nnx.Rngs(0))
        net.hidden1.kernel[...] = jnp.eye(4)
        net.eval()
        chex.assert_trees_all_close(net.features(x[None])[0], values, rtol=1e-5)


def test_a_name_gives_the_graph_of_its_function():
    graphs = [nnx.split(model(activation=chosen))[0] for chosen in ("elu", jax.nn.elu)]
    assert graphs[0] == graphs[1] == nnx.split(model())[0]


def test_classes_of_activations_are_made_for_each_layer():
    net = model(activation=layers.PReLU)
    net.hidden1_activation.negative_slope[...] = jnp.float32(0.5)
    assert float(net.hidden2_activation.negative_slope[...]) == pytest.approx(0.01)
    x = -jnp.ones((1, 4))
    dense = net.hidden1(x)
    chex.assert_trees_all_close(net.features(x, 1), jnp.where(dense < 0, 0.5 * dense, dense))
    assert "hidden2_activation/negative_slope" in path_names(nnx.state(net, nnx.Param))


# Standard deviations for 1000 inputs and 400 outputs.
@pytest.mark.parametrize(
    ("name", "deviation"),
    {
        "glorot_normal": (2 / 1400) ** 0.5,
        "glorot_uniform": (2 / 1400) ** 0.5,
        "he_normal": (2 / 1000) ** 0.5,
        "he_uniform": (2 / 1000) ** 0.5,
        "lecun_normal": (1 / 1000) ** 0.5,
        "normal": 1.0,
    }.items(),
)
def test_initialisers_by_name_and_by_object(name, deviation):
    by_name, by_object = (
        layers.MLP(1000, 5, units=(400,), kernel_init=chosen, rngs=nnx.Rngs(0)).hidden1.kernel[...]
        for chosen in (name, getattr(layers, name))
    )
    chex.assert_trees_all_equal(by_name, by_object)
    assert float(jnp.std(by_name)) == pytest.approx(deviation, rel=0.02)


def halves(n):
    x = np.random.default_rng(0).normal(size=(n, 4)).astype(np.float32)
    return x, (x[:, 0] > 0).astype(np.int32)


def trained(**kwargs):
    net = model(**kwargs)
    return training.fit(
        net, ADAM, train=halves(300), valid=halves(40), batch_size=20, epochs=10, progress=False
    )


def test_all_at_once_is_trained_in_compiled_epochs():
    result = trained(**(REGULARISED | {"activation": "prelu", "batch_norm_momentum": 0.8}))
    assert result.history.valid_accuracy.max() > 0.75
    for rate, expected in (("dropout", 0.5), ("input_dropout", 0.2), ("drop_connect", 0.3)):
        assert float(getattr(result.model, rate).rate[...]) == pytest.approx(expected)
    assert float(jnp.abs(result.model.hidden1_norm.mean[...]).sum()) > 0
    chex.assert_trees_all_equal(result.model(halves(5)[0]), result.model(halves(5)[0]))


def test_training_at_a_rate_of_zero_gives_the_numbers_of_no_dropout():
    zero = jnp.zeros(())
    plain, noisy = trained(), trained(dropout_rate=zero, input_dropout_rate=zero)
    np.testing.assert_allclose(noisy.history.train_loss, plain.history.train_loss, rtol=1e-5)
    assert trained(dropout_rate=0.5).history.train_loss[0] != plain.history.train_loss[0]


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
        (lambda: layers.MLP(4, 3, rngs=0), r"MLP: rngs must be an nnx.Rngs, such as .* got 0"),
        (lambda: layers.MLP(4, 2.5, rngs=nnx.Rngs(0)), "MLP: out_features must be a whole number"),
        (lambda: layers.MLP(4, 3, units=(5, -1), rngs=nnx.Rngs(0)), "each of units must be"),
        (lambda: model(dropout_rate=1.0), r"MLP: dropout_rate must lie in \[0, 1\), got 1.0"),
        (lambda: model(input_dropout_rate=-1), "MLP: input_dropout_rate must lie"),
        (lambda: model(drop_connect_rate="a"), "MLP: drop_connect_rate must be a number"),
        (lambda: model(batch_norm_momentum=1), "MLP: batch_norm_momentum must lie"),
        (lambda: model(activation="swoosh"), r"MLP: activation must be a function, .* 'swoosh'"),
        (lambda: model(activation=float), "MLP: activation must be a function, a class of NNX"),
        (lambda: model(kernel_init="he"), "MLP: kernel_init must be an initialiser or one of"),
        (lambda: model().features(jnp.ones((1, 4)), 3), "upto must be at most 2, got 3"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
