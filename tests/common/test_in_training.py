"""In `fit` every transformation does what it does in a loop written by hand."""

import chex
import jax
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import training
from jaxopt_cards.core.declaration import declaration_of
from tests.common.transformations import TRANSFORMATIONS, params

STEPS = 4


class Net(nnx.Module):
    """A network whose parameters are those of the table."""

    def __init__(self):
        self.hidden1 = nnx.Linear(8, 4, use_bias=False, rngs=nnx.Rngs(0))
        self.hidden1.kernel[...] = params()["hidden1"]["kernel"]
        self.scale = nnx.Param(params()["scale"])

    def __call__(self, x):
        return self.hidden1(x * self.scale[None])


def examples(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(6, 8)).astype(np.float32), rng.integers(0, 4, 6)


TRAIN, VALID = examples(0), examples(1)


def loss(weights, examples):
    x, y = examples
    outputs = x * weights["scale"][None] @ weights["hidden1"]["kernel"]
    return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()


def declared(row, capability):
    """The function that any transformation in the row's name declares, as its card says."""
    names = [name for name in row.name.replace(",", "").split() if hasattr(jc, name)]
    reader = max(getattr(declaration_of(getattr(jc, name)), capability, "") for name in names)
    return getattr(jc, reader) if reader else lambda weights, state: weights


def by_hand(row):
    """The parameters after all steps, and the validation loss after each."""
    gradient_at, evaluated_at = declared(row, "gradient_at"), declared(row, "evaluated_at")
    tx = optax.with_extra_args_support(row.make(*row.given()))
    weights, losses = params(), []
    state = tx.init(weights)

    @jax.jit
    def step(weights, state):
        value, grads = jax.value_and_grad(loss)(gradient_at(weights, state), TRAIN)
        updates, state = tx.update(grads, state, weights, value=value)
        weights = optax.apply_updates(weights, updates)
        return weights, state, loss(evaluated_at(weights, state), VALID)

    for _ in range(STEPS):
        weights, state, measured = step(weights, state)
        losses.append(measured)
    return weights, np.array(losses)


@pytest.mark.parametrize("row", TRANSFORMATIONS, ids=lambda row: row.name)
def test_fit_does_what_a_plain_loop_does(row):
    with jax.numpy_dtype_promotion("standard"):  # Optax's MultiSteps divides by an integer
        result = training.fit(
            Net(), row.make(*row.given()), train=TRAIN, valid=VALID, batch_size=6, epochs=STEPS,
            progress=False,
        )  # fmt: skip
        weights, losses = by_hand(row)
    np.testing.assert_allclose(result.history.valid_loss, losses, rtol=1e-4)
    last = nnx.to_pure_dict(nnx.state(result.last, nnx.Param))
    chex.assert_trees_all_close(last, weights, rtol=1e-3, atol=1e-5)
    kept = nnx.to_pure_dict(nnx.state(result.model, nnx.Param))
    np.testing.assert_allclose(loss(kept, VALID), losses.min(), rtol=1e-4)
