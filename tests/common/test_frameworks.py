"""Every transformation inside of NNX, Linen and Equinox does what it does in a plain loop."""

import functools
from collections.abc import Callable

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from flax.training.train_state import TrainState

import jaxopt_cards as jc
from tests.common.test_states import gradients, optaxs_own_promotions, over
from tests.common.transformations import TRANSFORMATIONS, params

STEPS = 10
__all__ = ["optaxs_own_promotions"]  # for all tests of this file


def made(row):
    return optax.with_extra_args_support(row.make(*row.given()))


@functools.cache
def plain(row):
    """The parameters after ten steps of a bare loop."""
    tx, now = made(row), params()
    state = tx.init(now)

    @jax.jit
    def step(now, state, grad):
        updates, state = tx.update(grad, state, now, **row.extra)
        return optax.apply_updates(now, updates), state

    for grad in gradients(params(), STEPS):
        now, state = step(now, state, grad)
    return now


class Layer(nnx.Module):
    def __init__(self, kernel):
        self.kernel = nnx.Param(kernel)


class Network(nnx.Module):
    """With the paths of the table."""

    def __init__(self):
        self.hidden1 = Layer(params()["hidden1"]["kernel"])
        self.scale = nnx.Param(params()["scale"])


def in_nnx(row, compile):
    """`init` sees the parameters as `nnx.Param`s, `update` their arrays."""
    model = Network()
    optimizer = nnx.Optimizer(model, made(row), wrt=nnx.Param)

    @compile
    def step(model, optimizer, grad):
        grads = nnx.state(model, nnx.Param)
        nnx.replace_by_pure_dict(grads, grad)
        optimizer.update(model, grads, **row.extra)

    for grad in gradients(params(), STEPS):
        step(model, optimizer, grad)
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


@over(TRANSFORMATIONS)
def test_in_nnx_optimizer(row):
    chex.assert_trees_all_close(in_nnx(row, nnx.jit), plain(row), rtol=1e-5, atol=1e-6)


@over([row for row in TRANSFORMATIONS if row.function == "compress_state"])
def test_in_nnx_optimizer_step_by_step(row):
    chex.assert_trees_all_close(in_nnx(row, lambda step: step), plain(row), rtol=1e-5, atol=1e-6)


def passing_extra_args(row):
    """`TrainState` gives none, so that whoever needs one closes over it."""
    tx = made(row)
    return optax.GradientTransformation(tx.init, lambda *args: tx.update(*args, **row.extra))


@over(TRANSFORMATIONS)
def test_in_linens_train_state(row):
    tx = passing_extra_args(row)
    state = TrainState.create(apply_fn=None, params=params(), tx=tx)
    step = jax.jit(lambda state, grads: state.apply_gradients(grads=grads), donate_argnums=0)
    for grad in gradients(params(), STEPS):
        state = step(state, grad)
    chex.assert_trees_all_close(state.params, plain(row), rtol=1e-5, atol=1e-6)


class Dense(eqx.Module):
    kernel: jax.Array
    activation: Callable = jnp.tanh


class Perceptron(eqx.Module):
    """With the paths of the table, and with what is no parameter."""

    hidden1: Dense
    scale: jax.Array
    calls: jax.Array


@over(TRANSFORMATIONS)
def test_in_equinox(row):
    start, tx = params(), made(row)
    model = Perceptron(Dense(start["hidden1"]["kernel"]), start["scale"], jnp.array(3))
    state = tx.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state, grad):
        weights = eqx.filter(model, eqx.is_inexact_array)
        leaves = [grad["hidden1"]["kernel"], grad["scale"]]
        grads = jax.tree.unflatten(jax.tree.structure(weights), leaves)
        updates, state = tx.update(grads, state, weights, **row.extra)
        return eqx.apply_updates(model, updates), state

    for grad in gradients(start, STEPS):
        model, state = step(model, state, grad)
    expected = plain(row)
    chex.assert_trees_all_close(model.hidden1.kernel, expected["hidden1"]["kernel"], atol=1e-6)
    chex.assert_trees_all_close(model.scale, expected["scale"], atol=1e-6)


class Chosen(eqx.Module):
    """A mask that can be called, as the network that it is like."""

    kernel: bool | jax.Array
    bias: bool | jax.Array

    def __call__(self, x):
        raise AssertionError("a tree, not a function")


@pytest.mark.parametrize(
    "mask", [Chosen(kernel=True, bias=False), lambda params: Chosen(True, False)]
)
def test_a_mask_may_be_a_module(mask):
    network = Chosen(jnp.ones(2), jnp.ones(2))
    zeros = jax.tree.map(jnp.zeros_like, network)
    tx = jc.add_decayed_weights(0.5, mask)
    updates, _ = tx.update(zeros, tx.init(network), network)
    chex.assert_trees_all_close(updates, Chosen(jnp.full(2, 0.5), jnp.zeros(2)))
    tx = jc.adamw(0.1, weight_decay=0.5, mask=mask)
    tx.update(zeros, tx.init(network), network)


def test_a_mask_function_may_be_partial():
    tx = jc.add_decayed_weights(0.5, jax.tree_util.Partial(lambda params: {"a": True, "b": False}))
    start = {"a": jnp.ones(2), "b": jnp.ones(2)}
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, start), tx.init(start), start)
    chex.assert_trees_all_close(updates, {"a": jnp.full(2, 0.5), "b": jnp.zeros(2)})
