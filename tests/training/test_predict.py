"""Predictions: what the model itself answers in evaluation mode, whatever the batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxopt_cards import layers, training

X = np.random.default_rng(0).normal(size=(11, 4)).astype(np.float32)


def model():
    return layers.MLP(4, 3, units=(6,), batch_norm=True, dropout_rate=0.5, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("batch_size", [1, 4, 11, 1000])
def test_gives_what_the_model_answers_in_evaluation_mode(batch_size):
    net = model()
    found = training.predict(net, X, batch_size=batch_size)
    assert type(found) is np.ndarray
    net.eval()
    np.testing.assert_allclose(found, net(X), rtol=1e-5, atol=1e-6)


def test_takes_arrays_of_the_device_and_of_files(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    expected = training.predict(model(), X)
    for x in (jnp.asarray(X), mapped, X.astype(float), X.tolist()):
        np.testing.assert_array_equal(training.predict(model(), x), expected)


def test_the_model_is_not_changed():
    net = model()
    # Copies, since a variable changes in place.
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(net, nnx.Not(nnx.RngState))))
    graph = nnx.graphdef(net)
    training.predict(net, X, batch_size=4)
    assert nnx.graphdef(net) == graph
    after = nnx.to_pure_dict(nnx.state(net, nnx.Not(nnx.RngState)))
    jax.tree.map(np.testing.assert_array_equal, before, after)


class Both(nnx.Module):
    """Two outputs, and how often they were computed or traced."""

    calls = 0

    def __init__(self):
        self.layer = nnx.Linear(4, 2, rngs=nnx.Rngs(0))

    def __call__(self, x):
        type(self).calls += 1
        y = self.layer(x)
        return {"values": y, "sizes": jnp.sum(y**2, axis=1)}


def test_a_tree_of_outputs_is_a_tree_of_arrays():
    found = training.predict(Both(), X, batch_size=4)
    assert jax.tree.map(np.shape, found) == {"values": (11, 2), "sizes": (11,)}


def test_compiles_once_for_a_structure():
    training.predict(Both(), X, batch_size=5)
    before = Both.calls
    training.predict(Both(), X[:7], batch_size=5)
    assert Both.calls - before == 1  # to see the shapes of the outputs


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:0], r"x is empty: it has the shape \(0, 4\)"),
        (X[0, 0], r"x is empty: it has the shape \(\)"),
        (X[:, :3], r"the model does not take inputs of the shape \(3,\) of x"),
        ("no numbers", "x must be an array of numbers, got str"),
        (np.full((2, 4), 2**40), "x must lie in"),
    ],
)
def test_refuses_inputs_with_a_reason(x, message):
    with pytest.raises(ValueError, match=f"^predict: {message}"):
        training.predict(model(), x)


def test_refuses_outputs_without_a_row_for_each_input():
    class Mean(nnx.Module):
        def __call__(self, x):
            return jnp.mean(x)

    with pytest.raises(ValueError, match=r"predict: the outputs must have a row for each input"):
        training.predict(Mean(), X)
