"""A stream is learned from once, batch by batch; no example is dropped."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from tests.training.blobs import TRAIN


def model():
    return layers.MLP(6, 3, units=(8,), rngs=nnx.Rngs(0))


def stream(size, n=150):
    return ((TRAIN.x[i : i + size], TRAIN.y[i : i + size]) for i in range(0, n, size))


@pytest.mark.parametrize("size", [1, 40, 150])
def test_equals_a_plain_loop(size):
    n = 12 if size == 1 else 150
    result = training.fit_online(model(), jc.sgd(0.1), stream(size, n))
    graph, params, rest = nnx.split(model(), nnx.Param, ...)
    losses = []
    for x, y in stream(size, n):
        mean = lambda params, x=x, y=y: optax.softmax_cross_entropy_with_integer_labels(  # noqa: E731
            nnx.merge(graph, params, rest)(x), y
        ).mean()
        loss, grads = jax.value_and_grad(mean)(params)
        losses.append(loss)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)
    np.testing.assert_allclose(result.losses, losses, rtol=1e-5)
    chex.assert_trees_all_close(
        nnx.to_pure_dict(nnx.state(result.model, nnx.Param)), nnx.to_pure_dict(params), rtol=1e-4,
        atol=1e-6,
    )  # fmt: skip


def test_follows_a_stream_that_drifts():
    rng = np.random.default_rng(0)
    directions = np.linspace(0, np.pi, 400)
    x = rng.normal(size=(400, 20, 2)).astype(np.float32)
    y = np.einsum("tbi,it->tb", x, [np.cos(directions), np.sin(directions)]) > 0
    net = layers.MLP(2, 2, units=(), rngs=nnx.Rngs(0))
    losses = training.fit_online(net, jc.sgd(1.0), zip(x, y.astype(int), strict=True)).losses
    assert losses[-100:].mean() < 0.4 < losses[0]  # frozen early, it would be wrong at the end


def test_bad_streams():
    with pytest.raises(ValueError, match="fit_online: batches is empty"):
        training.fit_online(model(), jc.sgd(0.1), [])
    longer = [(TRAIN.x[:10], TRAIN.y[:10]), (TRAIN.x, TRAIN.y)]
    with pytest.raises(ValueError, match="batch 2 must be no longer than the first, of 10"):
        training.fit_online(model(), jc.sgd(0.1), longer)
    with pytest.raises(ValueError, match=r"batch 1 must be \(x, y\) or"):
        training.fit_online(model(), jc.sgd(0.1), [TRAIN.x])
    with pytest.raises(FloatingPointError, match=r"not finite since batch 2, in hidden1/bias, "):
        training.fit_online(model(), jc.sgd(1e38), stream(50))
    with pytest.raises(FloatingPointError, match="weights are not finite after batch 1, in hid"):
        training.fit_online(model(), jc.scale(-jnp.inf), [(TRAIN.x, TRAIN.y)])
    with pytest.raises(ValueError, match="matches none of the parameters"):
        training.fit_online(model(), jc.sgd(0.1), stream(50), trainable=transfer.freeze("hiden"))
    wrong = [(TRAIN.x, TRAIN.y), (TRAIN.x, TRAIN.y + 1)]
    with pytest.raises(ValueError, match=r"labels of batch 2 must lie in \[0, 2\]"):
        training.fit_online(model(), jc.sgd(0.1), wrong)


def test_a_step_that_was_skipped_leaves_a_hole_in_the_losses():
    mean = lambda outputs, labels: jnp.where(labels[0] == 9, jnp.inf, outputs.sum(axis=1))  # noqa: E731
    batches = [(TRAIN.x[:4], np.full(4, label)) for label in (0, 9, 0)]
    tx = jc.skip_nonfinite(jc.sgd(1e-3))
    losses = training.fit_online(model(), tx, batches, loss=mean).losses
    assert np.isfinite(losses).tolist() == [True, False, True]
