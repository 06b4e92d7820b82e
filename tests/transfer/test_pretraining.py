"""Pretraining without labels: autoencoders, Boltzmann machines, and ranking."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training, transfer
from jaxopt_cards.transfer.autoencoder import Masking
from jaxopt_cards.transfer.rbm import RBM

X = data.digits().train.x[:200]
ADAM = jc.adam(1e-3)
QUICK = {"epochs": 3, "batch_size": 50, "progress": False}


def arrays(module):
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    }


def network(seed=0, **more):
    return layers.MLP(64, 10, **({"units": (20, 20)} | more), rngs=nnx.Rngs(seed))


# Both kinds, in what they have in common.


def autoencoder(model, x=X, **more):
    return transfer.pretrain_autoencoder(model, ADAM, x, **(QUICK | more))


def boltzmann(model, x=X, **more):
    return transfer.pretrain_rbm(model, jc.momentum(0.1, 0.5), x, **(QUICK | more))


@pytest.fixture(params=[autoencoder, boltzmann])
def pretrain(request):
    return request.param


def test_only_the_layers_asked_for_change_and_only_in_the_copy(pretrain):
    model = network()
    before = arrays(model)
    result = pretrain(model, upto=1)
    after = arrays(result.model)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"['hidden1']['kernel']", "['hidden1']['bias']"}
    jax.tree.map(np.testing.assert_array_equal, before, arrays(model))
    assert [len(losses) for losses in result.losses] == [3]


def test_layers_below_are_as_without_those_above(pretrain):
    one, both = (pretrain(network(), upto=upto) for upto in (1, None))
    np.testing.assert_array_equal(one.model.hidden1.kernel[...], both.model.hidden1.kernel[...])
    assert len(both.losses) == 2
    assert not np.array_equal(both.model.hidden2.kernel[...], network().hidden2.kernel[...])


def test_the_seed_says_all(pretrain):
    one, same, other = (arrays(pretrain(network(), seed=seed).model) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, same)
    assert not np.array_equal(one["['hidden2']['kernel']"], other["['hidden2']['kernel']"])


def test_the_pretrained_model_trains_on(pretrain):
    model = pretrain(network(activation="logistic")).model
    labels = data.digits().train.y[:200]
    result = training.fit(
        model, ADAM, train=(X, labels), valid=(X, labels), epochs=2, progress=False
    )
    assert result.history.train_loss[1] < result.history.train_loss[0]


@pytest.mark.parametrize(
    ("model", "x", "more", "message"),
    [
        (layers.MLP(64, 10, (), rngs=nnx.Rngs(0)), X, {}, "model must have hidden layers"),
        (nnx.Linear(64, 10, rngs=nnx.Rngs(0)), X, {}, "model must be a layers.MLP, got 'Linear'"),
        (network(), X[:, :63], {}, r"x must be floating-point, of shape \(n, 64\), got .*\[200,"),
        (network(), X.astype(int), {}, r"x must be floating-point, .* got 'int32\[200, 64\]'"),
        (network(), X[:0], {}, "x is empty"),
        (network(), np.full_like(X, np.nan), {}, "of x must be finite, got nan"),
        (
            network(),
            X,
            {"upto": 3},
            "upto must be at most 2, the hidden layers of the model, got 3",
        ),
        (network(), X, {"upto": 0}, "upto must be a whole number >= 1, got 0"),
        (network(), X, {"epochs": 0}, "epochs must be a whole number >= 1, got 0"),
        (network(), X, {"batch_size": 201}, "batch_size must be at most the 200 training examples"),
        (network(), X, {"seed": -1}, "seed must be a whole number >= 0, got -1"),
    ],
)
def test_bad_arguments(pretrain, model, x, more, message):
    names = {autoencoder: "pretrain_autoencoder", boltzmann: "pretrain_rbm"}
    with pytest.raises(ValueError, match=f"{names[pretrain]}: .*{message}"):
        pretrain(model, x, **more)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: autoencoder(network(), noise=1), r"noise must lie in \[0, 1\), got 1"),
        (lambda: boltzmann(network(), k=0), "k must be a whole number >= 1, got 0"),
        (lambda: boltzmann(network(), X + 1), r"x must lie in \[0, 1\], got \(1.0, 2.0\)"),
        (lambda: boltzmann(network(batch_norm=True)), "model must have no batch normalisation"),
        (lambda: transfer.pretrain_rbm(network(), 0.1, X), "tx must be a gradient transformation"),
        (lambda: transfer.pretrain_autoencoder(network(), 0.1, X), "tx must be a gradient"),
    ],
)
def test_bad_arguments_of_one(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Autoencoders.


def test_linear_autoencoders_find_principal_components():
    # Without noise, the least error is what the largest singular values leave over (Baldi and
    # Hornik, 1989): for each layer, of the outputs of the one below.
    result = transfer.pretrain_autoencoder(
        layers.MLP(64, 2, (10, 5), lambda x: x, rngs=nnx.Rngs(0)),
        jc.adam(1e-2),
        X,
        noise=0,
        epochs=600,
        batch_size=50,
        progress=False,
    )
    for index, units in ((1, 10), (2, 5)):
        x = np.asarray(result.model.features(jnp.asarray(X), index - 1))
        values = np.linalg.svd(x - x.mean(axis=0), compute_uv=False)
        least, loss = np.sum(values[units:] ** 2) / x.size, result.losses[index - 1].min()
        assert least * (1 - 1e-4) <= loss <= least * 1.05


def test_parts_beside_the_dense_layer_are_trained_along():
    model = network(batch_norm=True, activation="prelu", dropout_rate=0.5)
    pretrained = autoencoder(model).model
    for name in ("hidden1_norm", "hidden2_norm", "hidden1_activation", "hidden2_activation"):
        before, after = (arrays(getattr(which, name)) for which in (model, pretrained))
        assert all(not np.array_equal(before[key], after[key]) for key in before), name
    mean = np.asarray(pretrained.hidden1_norm.mean[...])
    assert not np.array_equal(mean, np.zeros(20))
    assert pretrained.hidden1_norm.use_running_average is False  # the mode it was in
    assert pretrained.dropout is not None


def test_masking_sets_the_share_to_zero_and_leaves_the_rest():
    x = jnp.arange(1.0, 40_001.0).reshape(200, 200)
    spoilt = np.asarray(Masking(0.25)(jax.random.key(0), x))
    np.testing.assert_allclose(np.mean(spoilt == 0), 0.25, atol=5 * np.sqrt(0.25 * 0.75 / 40_000))
    np.testing.assert_array_equal(spoilt[spoilt != 0], np.asarray(x)[spoilt != 0])
    assert Masking(0.25) == Masking(0.25)


def test_a_loss_of_ones_own():
    def cross_entropy(outputs, targets):
        return jnp.sum(jnp.logaddexp(0.0, outputs) - targets * outputs, axis=-1)

    losses = autoencoder(network(), upto=1, loss=cross_entropy, epochs=10).losses[0]
    assert losses[-1] < 0.9 * 64 * np.log(2)


# Restricted Boltzmann machines, small enough to count all their states.

VISIBLE, HIDDEN = 3, 2
V = np.array(list(itertools.product([0, 1], repeat=VISIBLE)), np.float32)
H = np.array(list(itertools.product([0, 1], repeat=HIDDEN)), np.float32)
SAMPLES = np.array([[0, 0, 1], [1, 1, 0], [1, 1, 0], [0, 0, 1], [1, 1, 1]], np.float32)


def machine(seed=0, k=1, x=SAMPLES, units=HIDDEN):
    rbm = RBM(jnp.asarray(x), units, k, rngs=nnx.Rngs(seed))
    rows = np.random.default_rng(seed)
    for param in (rbm.kernel, rbm.visible_bias, rbm.hidden_bias):
        param[...] = jnp.asarray(rows.normal(size=param.shape), jnp.float32)
    return rbm


def weights(rbm):
    params = (rbm.kernel, rbm.visible_bias, rbm.hidden_bias)
    return tuple(np.asarray(param[...], float) for param in params)


def log_probabilities(rbm):
    """The logarithm of each visible state's probability, all states counted."""
    kernel, visible, hidden = weights(rbm)
    minus_energy = V @ kernel @ H.T + (V @ visible)[:, None] + (H @ hidden)[None]
    return np.log(np.exp(minus_energy).sum(axis=1)) - np.log(np.exp(minus_energy).sum())


def log_likelihood(rbm):
    states = (SAMPLES @ [4, 2, 1]).astype(int)
    return log_probabilities(rbm)[states].mean()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000))
def test_free_energy_is_that_of_all_hidden_states(seed):
    rbm = machine(seed)
    free = -np.asarray(rbm.free_energy(jnp.asarray(V)), float)
    expected = log_probabilities(rbm)
    np.testing.assert_allclose(free - np.log(np.exp(free).sum()), expected, atol=1e-5)


def gradient(rbm, v):
    """What `fit` gives to the optimizer, and the key it drew with."""
    key = nnx.clone(rbm).next_key()
    grads = nnx.grad(lambda rbm: rbm(v).mean())(nnx.clone(rbm))
    return key, tuple(np.asarray(grads[name][...]) for name in NAMES)


NAMES = ("kernel", "visible_bias", "hidden_bias")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("k", [1, 3])
def test_contrastive_divergence_is_hintons_statistics(k):
    rows = np.random.default_rng(1)
    v0 = rows.uniform(size=(40, 6)).astype(np.float32)
    rbm = machine(k=k, x=v0, units=4)
    kernel, visible, hidden = weights(rbm)
    key, found = gradient(rbm, jnp.asarray(v0))

    v = v0.astype(float)
    for one in jax.random.split(key, k):
        up, down = jax.random.split(one)
        h = np.asarray(jax.random.uniform(up, (40, 4))) < sigmoid(v @ kernel + hidden)
        v = np.asarray(jax.random.uniform(down, (40, 6))) < sigmoid(h @ kernel.T + visible)
    h0, hk = sigmoid(v0 @ kernel + hidden), sigmoid(v @ kernel + hidden)
    expected = (
        (v.T @ hk - v0.T @ h0) / 40,
        (v * 1.0 - v0).mean(axis=0),
        (hk - h0).mean(axis=0),
    )
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_a_long_chain_gives_the_gradient_of_the_likelihood():
    many = np.tile(SAMPLES, (4000, 1))
    rbm = machine(k=30)
    _, found = gradient(rbm, jnp.asarray(many))
    kernel, _, hidden = weights(rbm)
    probabilities = np.exp(log_probabilities(rbm))[:, None]
    h0, h = sigmoid(SAMPLES @ kernel + hidden), sigmoid(V @ kernel + hidden)
    expected = (
        (V * probabilities).T @ h - SAMPLES.T @ h0 / len(SAMPLES),
        (V * probabilities).sum(axis=0) - SAMPLES.mean(axis=0),
        (h * probabilities).sum(axis=0) - h0.mean(axis=0),
    )
    for ours, theirs in zip(found, expected, strict=True):
        # Five standard deviations of the mean of 20,000 chains.
        np.testing.assert_allclose(ours, theirs, atol=5 * 0.5 / np.sqrt(len(many)))


def test_training_raises_the_likelihood():
    model = layers.MLP(VISIBLE, 2, (HIDDEN,), "logistic", rngs=nnx.Rngs(0))
    many = np.tile(SAMPLES, (20, 1))
    losses = []

    def likelihood(epochs):
        result = transfer.pretrain_rbm(
            model, jc.momentum(0.1), many, k=5, epochs=epochs, batch_size=10, progress=False
        )
        losses.append(result.losses[0])
        # The visible biases are thrown away; the best ones for this layer stand in for them.
        rbm = machine()
        rbm.kernel[...] = result.model.hidden1.kernel[...]
        rbm.hidden_bias[...] = result.model.hidden1.bias[...]
        rbm.visible_bias[...] = jnp.zeros(VISIBLE)
        for _ in range(500):
            expected = np.exp(log_probabilities(rbm)) @ V
            step = jnp.asarray(SAMPLES.mean(axis=0) - expected, jnp.float32)
            rbm.visible_bias[...] = rbm.visible_bias[...] + step
        return log_likelihood(rbm)

    alone = SAMPLES.mean(axis=0).clip(0.01, 0.99)
    independent = (SAMPLES * np.log(alone) + (1 - SAMPLES) * np.log(1 - alone)).sum(axis=1).mean()
    early, late = likelihood(1), likelihood(150)
    assert independent < early + 0.05 < late
    assert late > independent + 0.5
    np.testing.assert_array_equal(losses[0], losses[1][:1])


def test_a_machine_that_diverges_says_so():
    with pytest.raises(FloatingPointError, match=r"pretrain_rbm: the .* not finite .* lower learn"):
        transfer.pretrain_rbm(network(), jc.sgd(3e38), X, **QUICK)


def test_the_machine_of_the_last_epoch_is_returned():
    # The error of reconstruction wavers at first, which must not choose the epoch.
    last = boltzmann(network(), upto=1, epochs=4)
    least = int(last.losses[0].argmin()) + 1
    assert least < 4
    of_least = boltzmann(network(), upto=1, epochs=least)
    kernels = [result.model.hidden1.kernel[...] for result in (last, of_least)]
    assert not np.array_equal(*kernels)


def test_the_first_biases_are_the_log_odds():
    x = np.array([[0, 1, 1], [0, 1, 0]], np.float32)
    rbm = RBM(jnp.asarray(x), 400, 1, rngs=nnx.Rngs(0))
    share = np.array([1 / 4, 3 / 4, 2 / 4])
    np.testing.assert_allclose(rbm.visible_bias[...], np.log(share / (1 - share)), atol=1e-6)
    np.testing.assert_allclose(np.std(rbm.kernel[...]), 0.01, rtol=0.1)


# Ranking.


@settings(deadline=None, max_examples=50)
@given(
    scores=st.lists(st.tuples(st.integers(-40, 40), st.integers(-40, 40)), min_size=1, max_size=4),
    margin=st.sampled_from([0.0, 0.5, 1.0, 3.0]),
)
def test_margin_ranking_loss(scores, margin):
    good, bad = np.array(scores, np.float32).T / 8
    losses = transfer.margin_ranking_loss(good, bad, margin)
    expected = [max(0.0, margin - g + b) for g, b in zip(good, bad, strict=True)]
    np.testing.assert_array_equal(losses, np.array(expected, np.float32))


def test_only_a_margin_not_kept_has_a_gradient():
    good, bad = jnp.array([3.0, 1.0, 0.5]), jnp.array([0.0, 0.0, 0.0])
    grads = jax.grad(lambda *s: transfer.margin_ranking_loss(*s).sum(), (0, 1))(good, bad)
    np.testing.assert_array_equal(grads, [[0, 0, -1], [0, 0, 1]])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_margin_ranking_loss_keeps_the_dtype(dtype):
    scores = jnp.ones((2, 3), dtype)
    losses = transfer.margin_ranking_loss(scores, scores, jnp.float32(0.5))
    assert (losses.shape, losses.dtype) == ((2, 3), dtype)


@pytest.mark.parametrize(
    ("good", "bad", "margin", "message"),
    [
        (
            jnp.ones(3),
            jnp.ones(4),
            1,
            r"bad must have the dtype and shape of good, float32\[3\], got 'fl",
        ),
        (
            jnp.ones(3),
            jnp.ones((3, 1)),
            1,
            r"bad must have the dtype and shape of good, .*, got 'float32\[3, 1\]'",
        ),
        (
            jnp.ones(3),
            jnp.ones(3, jnp.float16),
            1,
            r"bad must have the dtype and shape of good, .* got 'float16\[3\]'",
        ),
        (jnp.ones(3, int), jnp.ones(3, int), 1, "the dtype of good must be a dtype of floating"),
        (jnp.ones(3), jnp.ones(3), -1, r"margin must lie in \[0, inf\), got -1"),
    ],
)
def test_margin_ranking_loss_with_bad_arguments(good, bad, margin, message):
    with pytest.raises(ValueError, match=f"margin_ranking_loss: {message}"):
        transfer.margin_ranking_loss(good, bad, margin)
