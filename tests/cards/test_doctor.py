import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_cards import cards, layers
from jaxopt_cards.cards.statistics import diagnosis

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 6)).astype(np.float32)
Y = RANDOM.integers(0, 3, 40).astype(np.int32)

# Each activation with its slope, at the values before it.
FUNCTIONS = {
    "logistic": (lambda z: 1 / (1 + np.exp(-z)), lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2),
    "tanh": (np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(float)),
}


def by_hand(model, activation):
    """Forward and backward in NumPy float64, after the book."""
    function, slope = FUNCTIONS[activation]
    names = [f"hidden{i + 1}" for i in range(model.depth)] + ["logits"]
    weights = [np.asarray(getattr(model, name).kernel[...], float) for name in names]
    biases = [np.asarray(getattr(model, name).bias[...], float) for name in names]
    inputs, sums = [X.astype(float)], []
    for kernel, bias in zip(weights, biases, strict=True):
        sums.append(inputs[-1] @ kernel + bias)
        inputs.append(function(sums[-1]))
    outputs = np.exp(sums[-1] - sums[-1].max(axis=1, keepdims=True))
    delta = outputs / outputs.sum(axis=1, keepdims=True) - np.eye(outputs.shape[1])[Y]
    rows = []
    for index in reversed(range(model.depth)):
        by_activations = delta @ weights[index + 1].T
        h, z = inputs[index + 1], sums[index]
        delta = by_activations * slope(z)
        by_weights = inputs[index].T @ delta / len(X)
        rows.append(
            (
                h.mean(),
                h.std(),
                (h == 0).mean(),
                ((h != 0) & (np.abs(slope(z)) < 0.01)).mean(),
                (h == 0).all(axis=0).mean(),
                np.sqrt((by_activations**2).mean()),
                np.sqrt((by_weights**2).mean()),
            )
        )
    return rows[::-1]


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_statistics_are_those_computed_by_hand(activation):
    model = layers.MLP(6, 3, (7, 5, 4), activation, "normal", rngs=nnx.Rngs(1))
    for factor in (0.3, 10.0):
        scaled = functools.partial(jnp.multiply, factor)
        nnx.update(model, jax.tree.map(scaled, nnx.state(model, nnx.Param)))
        found = cards.layer_statistics(model, X, Y)
        assert [row.layer for row in found] == ["hidden1", "hidden2", "hidden3"]
        numbers = np.array([row[1:] for row in found])
        np.testing.assert_allclose(numbers, by_hand(model, activation), rtol=2e-4, atol=1e-7)


def test_a_sequence_of_layers_is_measured_like_the_mlp():
    model = layers.MLP(6, 3, (7, 5), "tanh", rngs=nnx.Rngs(1))
    sequence = nnx.Sequential(model.hidden1, jnp.tanh, model.hidden2, jnp.tanh, model.logits)
    ours, theirs = (cards.layer_statistics(m, X, Y) for m in (model, sequence))
    assert [row.layer for row in theirs] == ["layers/0", "layers/2"]
    np.testing.assert_allclose([r[1:] for r in ours], [r[1:] for r in theirs], rtol=1e-6)


def test_noise_is_off_and_the_model_stays_as_it_was():
    quiet = layers.MLP(6, 3, (7, 5), rngs=nnx.Rngs(1))
    noisy = layers.MLP(6, 3, (7, 5), dropout_rate=0.5, drop_connect_rate=0.5, rngs=nnx.Rngs(1))
    before = jax.tree.map(jnp.copy, nnx.state(noisy))
    assert cards.layer_statistics(noisy, X, Y) == cards.layer_statistics(quiet, X, Y)
    same = jax.tree.map(lambda old, new: bool((old == new).all()), before, nnx.state(noisy))
    assert all(jax.tree.leaves(same))
    assert not noisy.dropout.deterministic
    assert type(noisy.hidden1) is nnx.Linear


def test_batch_normalisation_takes_the_statistics_of_these_examples():
    model = layers.MLP(6, 3, (70,) * 3, lambda x: x, batch_norm=True, rngs=nnx.Rngs(1))
    model.eval()
    for row in cards.layer_statistics(model, 100 * X, Y):
        assert row.std == pytest.approx(1, rel=1e-2)
        assert row.mean == pytest.approx(0, abs=1e-5)
    assert not model.hidden1_norm.mean[...].any()


def test_convolutions_are_layers_and_pooled_places_have_no_slope():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(
        nnx.Conv(1, 4, (3, 3), rngs=rngs),
        nnx.relu,
        lambda x: nnx.max_pool(x, (2, 2), strides=(2, 2)),
        lambda x: x.reshape(len(x), -1),
        nnx.Linear(36, 3, rngs=rngs),
    )
    images = RANDOM.normal(size=(8, 6, 6, 1)).astype(np.float32)
    (row,) = cards.layer_statistics(model, images, Y[:8])
    assert row.layer == "layers/0"
    assert np.isnan(row.saturated)
    assert row.gradient_norm > 0
    assert "finite" not in diagnosis([row])


# Those of sound networks, and of gradients that vanish, are in test_doctor_command.py.
@pytest.mark.parametrize(
    ("activation", "words"), [("leaky_relu", "explodes by a factor of"), ("tanh", "saturated")]
)
def test_diagnoses_are_those_of_the_chapter(activation, words):
    model = layers.MLP(6, 3, (50,) * 3, activation, "normal", rngs=nnx.Rngs(0))
    assert words in diagnosis(cards.layer_statistics(model, X, Y))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "healthy"),
        ({"gradient_norm": 1e-3}, "vanishes by a factor of 1e+03 over the layers"),
        ({"gradient_norm": 0.0}, "it is zero in the first layer"),
        ({"gradient_norm": 2e3}, "explodes by a factor of 2e+03 over the layers"),
        ({"gradient_norm": np.inf}, "not finite"),
        ({"dead": 0.75}, "75% of the units are dead in first"),
        ({"saturated": 0.6}, "60% of the activations are saturated in first"),
        ({"saturated": 0.4, "dead": 0.4, "gradient_norm": 0.2}, "healthy"),
    ],
)
def test_a_diagnosis_says_what_passes_its_thresholds(change, words):
    sound = cards.LayerStatistics("last", 0.0, 1.0, 0.5, 0.0, 0.0, 1.0, 1.0)
    first = sound._replace(layer="first", **change)
    assert words in diagnosis([first, sound])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: nnx.Linear(6, 3, rngs=nnx.Rngs(0)), "must have a hidden layer"),
        (lambda: layers.MLP(5, 3, rngs=nnx.Rngs(0)), "does not take inputs"),
        (lambda: len, "layer_statistics: model must"),
    ],
)
def test_models_that_cannot_be_measured_are_refused(model, words):
    with pytest.raises(ValueError, match=words):
        cards.layer_statistics(model(), X, Y)
