"""Epochs in which the validation set is measured every few steps, all inside the program.

A run may then end in the middle of an epoch. It is told no sooner than at the end of the compiled
call, but nothing changes after the evaluation at which patience ran out.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_cards.training import epoch_program
from jaxopt_cards.training.epoch_program import Data, Measured, Program, Run

PyTree = Any


class Steps(NamedTuple):
    """What a run by steps keeps beside that of a run by epochs; each of shape ()."""

    done: jax.Array  # int32: steps of training
    evaluations: jax.Array  # int32
    best_step: jax.Array  # int32: after which the best evaluation was; 0: none yet
    best_evaluation: jax.Array  # int32, from 1; 0: none yet
    loss: jax.Array  # float32: sum of the examples' losses since the last evaluation
    size: jax.Array  # float32: how many examples these are


def first_steps() -> Steps:
    """Before the first step."""
    whole, real = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.float32)
    return Steps(whole, whole, whole, whole, real, real)


def most_evaluations(steps: int, every: int) -> int:
    """The largest number of segments, each up to an evaluation or the end, in any epoch."""
    return math.ceil((steps + every - math.gcd(steps, every)) / every)


def epoch_by_steps(
    program: Program,
    tx: optax.GradientTransformation,
    run: Run,
    frozen: PyTree,
    train: Data,
    valid: Data,
    key: jax.Array,
    patience: jax.Array,
) -> tuple[Run, Measured]:
    """The rest of an epoch, or what patience leaves of it; as `one_epoch` in all else."""
    order = epoch_program.order_of(program, run, train, key)
    count = len(order.rows)
    every = program.evaluate_every or count
    first = run.epoch * count  # steps before this epoch
    table = jnp.full((most_evaluations(count, every), 3), jnp.nan, jnp.float32)
    before = run.steps.evaluations

    def goes_on(carry: tuple) -> jax.Array:
        run, bad_step, _ = carry
        steps = run.steps
        waited = steps.evaluations - jnp.maximum(steps.best_evaluation, 1)
        return (steps.done < first + count) & (waited < patience) & (bad_step == 0)

    def segment(carry: tuple) -> tuple:
        run, _, (losses, at_steps) = carry
        end = jnp.minimum(count, run.steps.done - first + every - run.steps.done % every)
        run, bad_step = _trained(program, tx, run, frozen, train, order, first, end)
        due = (run.steps.done % every == 0) | (bad_step > 0)
        index = run.steps.evaluations - before
        run, row = jax.lax.cond(
            due,
            lambda run, bad_step: _evaluated(program, run, frozen, valid, bad_step),
            lambda run, _: (run, jnp.zeros(3, jnp.float32)),
            run,
            bad_step,
        )
        losses = jnp.where(due, losses.at[index].set(row), losses)
        at_steps = jnp.where(due, at_steps.at[index].set(run.steps.done), at_steps)
        return run, bad_step, (losses, at_steps)

    start = (run, jnp.zeros((), jnp.int32), (table, jnp.zeros(len(table), jnp.int32)))
    run, bad_step, (losses, at_steps) = jax.lax.while_loop(goes_on, segment, start)
    ended = run.steps.done == first + count
    run = run._replace(epoch=run.epoch + ended.astype(jnp.int32))
    return run, Measured(losses, bad_step, epoch_program.largest(run.model.params), at_steps)


def _trained(
    program: Program,
    tx: optax.GradientTransformation,
    run: Run,
    frozen: PyTree,
    train: Data,
    order: Any,
    first: jax.Array,
    end: jax.Array,
) -> tuple[Run, jax.Array]:
    """Steps up to a number of this epoch, or to the first loss that is not finite."""
    step = functools.partial(epoch_program.one_step, program, tx, run.plateau, frozen, train)

    def one(carry: tuple) -> tuple:
        at, state, loss = carry
        batch = (at + 1, order.rows[at], order.weights[at])
        state, mean = step(order.noise, state, batch)
        return at + 1, state, loss + mean.astype(jnp.float32) * order.size[at, 0]

    start = (run.model, run.opt_state, jnp.zeros((), jnp.int32))
    begin = run.steps.done - first
    at, (model, opt_state, bad_step), loss = jax.lax.while_loop(
        lambda carry: (carry[0] < end) & (carry[1][2] == 0), one, (begin, start, run.steps.loss)
    )
    steps = jnp.arange(len(order.rows))
    seen = jnp.where((steps >= begin) & (steps < at), order.size[:, 0], 0)
    done = run.steps._replace(done=first + at, loss=loss, size=run.steps.size + jnp.sum(seen))
    return run._replace(model=model, opt_state=opt_state, steps=done), bad_step


def _evaluated(
    program: Program, run: Run, frozen: PyTree, valid: Data, bad_step: jax.Array
) -> tuple[Run, jax.Array]:
    """The run with a new best, if it is one, and the row of the history."""
    shown = epoch_program.evaluated(program, run.model, run.opt_state)
    valid_loss, accuracy = epoch_program.measure(program, shown, frozen, valid)
    kept = epoch_program.kept(program, run, shown, valid_loss, bad_step == 0)
    steps, number = run.steps, run.steps.evaluations + 1
    better = kept.best_loss < run.best_loss
    zero = jnp.zeros((), jnp.float32)
    new = Steps(
        steps.done,
        number,
        jnp.where(better, steps.done, steps.best_step),
        jnp.where(better, number, steps.best_evaluation),
        zero,
        zero,
    )
    row = jnp.stack([steps.loss / steps.size, valid_loss, accuracy])
    return kept._replace(epoch=run.epoch, steps=new), row


def compiled_epoch(program: Program) -> Any:
    """The epoch of a program, by steps or whole, to be compiled."""
    return epoch_program.compiled_epoch(
        epoch_by_steps if program.evaluate_every else epoch_program.one_epoch
    )


def rows_of(measured: Measured, seconds: float) -> list[list[float]]:
    """The rows of the history that one call of the epoch gave: losses, seconds, and steps."""
    losses = np.asarray(measured.losses, float)
    if losses.ndim == 1:
        return [[*losses.tolist(), seconds]]
    steps = np.asarray(measured.steps)
    there = steps > 0
    each = seconds / max(there.sum(), 1)
    pairs = zip(losses[there].tolist(), steps[there].tolist(), strict=True)
    return [[*row, each, step] for row, step in pairs]
