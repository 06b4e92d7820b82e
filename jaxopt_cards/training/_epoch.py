"""The compiled part of training: everything that happens in one epoch, as one program.

A model is split once into its graph and its arrays; in here there are only trees of arrays. Three
kinds are kept apart: the parameters that are trained, those that are frozen (no gradient, no
optimizer state, never copied), and the other variables, which the forward pass itself may change
(batch statistics, the counters of dropout) and which therefore ride along in the loop.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

PyTree = Any

EVALUATION_BATCH = 1000  # rows at a time, so that activations of large sets need not fit at once


class Program(NamedTuple):
    """What an epoch is compiled for. Equal programs share the compiled code."""

    train_graph: nnx.GraphDef
    eval_graph: nnx.GraphDef
    trainable: Any  # NNX filter
    tx: optax.GradientTransformation
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    batch_size: int


class Arrays(NamedTuple):
    """The arrays of a model that training changes."""

    params: PyTree  # the trained parameters
    variables: PyTree  # all that is no parameter


class Run(NamedTuple):
    """All that changes from one epoch to the next; what a checkpoint holds."""

    epoch: jax.Array  # shape (), int32: epochs done
    model: Arrays
    opt_state: optax.OptState
    best: Arrays  # as they were when the validation loss was least
    best_loss: jax.Array  # shape (), float32
    best_epoch: jax.Array  # shape (), int32, from 1; 0: none yet


def split(model: nnx.Module, trainable: Any) -> tuple[nnx.GraphDef, Arrays, PyTree]:
    """The graph, the arrays that training changes, and the frozen parameters."""
    graph, *states = nnx.split(model, trainable, nnx.Param, ...)
    params, frozen, variables = (nnx.to_pure_dict(state) for state in states)
    return graph, Arrays(params, variables), frozen


def merge(graph: nnx.GraphDef, arrays: Arrays, frozen: PyTree) -> nnx.Module:
    """The model again; a copy, which belongs to the trace that calls it."""
    return nnx.merge(graph, arrays.params, frozen, arrays.variables, copy=True)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def train_epoch(
    program: Program, run: Run, frozen: PyTree, train: Any, valid: Any, key: jax.Array
) -> tuple[Run, jax.Array]:
    """Trains on every example once, in a new order, then measures on the validation set.

    Returns the run after this epoch, and three numbers in one array, so that the host waits once:
    training loss (the mean over the epoch, while the model changed), validation loss and accuracy.
    """
    x, y = train
    # One sort of random bits. `jax.random.permutation` sorts twice, to be exact even where two of
    # the 32-bit numbers coincide; that took 3 % of the time of an epoch of MNIST.
    order = jnp.argsort(jax.random.bits(jax.random.fold_in(key, run.epoch), (len(y),)))
    tx = optax.with_extra_args_support(program.tx)

    def step(carry: tuple, batch: tuple) -> tuple[tuple, jax.Array]:
        arrays, opt_state = carry
        rows, weights = batch

        def batch_loss(params: PyTree) -> tuple[jax.Array, PyTree]:
            model = merge(program.train_graph, arrays._replace(params=params), frozen)
            losses = program.loss(model(x[rows]), y[rows])
            return losses @ weights, split(model, program.trainable)[1].variables

        (loss, variables), grads = jax.value_and_grad(batch_loss, has_aux=True)(arrays.params)
        updates, opt_state = tx.update(grads, opt_state, arrays.params, value=loss)
        params = optax.apply_updates(arrays.params, updates)
        return (Arrays(params, variables), opt_state), loss

    rows, weights = in_batches(order, program.batch_size)
    (model, opt_state), losses = jax.lax.scan(step, (run.model, run.opt_state), (rows, weights))
    train_loss = losses @ jnp.count_nonzero(weights, axis=1).astype(losses.dtype) / len(y)
    valid_loss, valid_accuracy = measure(program, model, frozen, valid)

    epoch = run.epoch + 1
    better = valid_loss < run.best_loss  # never true of NaN
    best, best_loss, best_epoch = jax.tree.map(
        lambda new, old: jnp.where(better, new, old),
        (model, valid_loss, epoch),
        (run.best, run.best_loss, run.best_epoch),
    )
    run = Run(epoch, model, opt_state, best, best_loss, best_epoch)
    return run, jnp.stack([train_loss.astype(jnp.float32), valid_loss, valid_accuracy])


@functools.partial(jax.jit, static_argnums=0)
def measure(
    program: Program, arrays: Arrays, frozen: PyTree, examples: Any
) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy of the model in evaluation mode."""
    x, y = examples

    def of_batch(_: None, batch: tuple) -> tuple[None, tuple[jax.Array, jax.Array]]:
        rows, weights = batch
        outputs = merge(program.eval_graph, arrays, frozen)(x[rows])
        losses = program.loss(outputs, y[rows])
        share = jnp.count_nonzero(weights).astype(jnp.float32) / len(y)
        return None, (losses @ weights * share, _correct(outputs, y[rows]) @ weights * share)

    batches = in_batches(jnp.arange(len(y)), min(EVALUATION_BATCH, len(y)))
    _, (losses, correct) = jax.lax.scan(of_batch, None, batches)
    # In float32 whatever the loss, as the run keeps them from epoch to epoch.
    return jnp.sum(losses).astype(jnp.float32), jnp.sum(correct).astype(jnp.float32)


def in_batches(order: jax.Array, batch_size: int) -> tuple[jax.Array, jax.Array]:
    """Cuts an order of rows into batches: row numbers, and the weight of each row in its batch.

    The last batch, if short, is filled up from the beginning at weight zero; the others' weights
    are such that they give the mean. So no example is dropped, and every batch has one shape.
    """
    n = len(order)
    rows = jnp.resize(order, (-(-n // batch_size), batch_size))
    real = (jnp.arange(rows.size) < n).reshape(rows.shape).astype(jnp.float32)
    return rows, real / jnp.sum(real, axis=1, keepdims=True)


def _correct(outputs: Any, labels: jax.Array) -> jax.Array:
    """Which rows have their highest output at their label; NaN where labels are no classes."""
    if (
        not isinstance(outputs, jax.Array)
        or outputs.ndim != 2
        or outputs.shape[1] < 2
        or labels.ndim != 1
        or not jnp.issubdtype(labels.dtype, jnp.integer)
    ):
        return jnp.full(len(labels), jnp.nan)
    return (jnp.argmax(outputs, axis=1).astype(labels.dtype) == labels).astype(jnp.float32)
