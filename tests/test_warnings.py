"""Warnings point at the user's line, whatever decorators and calls they came through."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer


def infinite_loss(outputs, y):
    return jnp.where(y == 9, jnp.inf, outputs.sum(-1))


def fit(_):
    model = layers.MLP(4, 3, units=(5,), rngs=nnx.Rngs(0))
    x, bad, good = np.ones((4, 4), "float32"), np.full(4, 9), np.zeros(4, int)
    data = {"train": (x, bad), "valid": (x, good)}
    training.fit(
        model, jc.sgd(0.1), **data, loss=infinite_loss, epochs=1, batch_size=4, progress=False
    )


def damaged(folder):
    (folder / "model").mkdir()
    return transfer.Zoo(folder)


def restore_a_damaged_checkpoint(folder):
    with training.Checkpointer(folder) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"x": jnp.ones(2)})
    (folder / "2" / "about" / "metadata").write_text("{")
    with training.Checkpointer(folder) as checkpoints:
        checkpoints.restore({"x": jnp.ones(2)})


CALLS = {
    "fit": fit,
    "Zoo.list": lambda folder: damaged(folder).list(),
    "Zoo.find": lambda folder: damaged(folder).find(),
    "Zoo in a text": lambda folder: str(damaged(folder)),
    "Checkpointer.restore": restore_a_damaged_checkpoint,
}


@pytest.mark.parametrize("name", CALLS)
def test_warnings_point_at_the_line_of_the_user(tmp_path, name):
    with pytest.warns(RuntimeWarning) as caught:
        CALLS[name](tmp_path)
    assert [warning.filename for warning in caught] == [__file__]
