"""Whole runs as pure functions, and many of them as one program."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards.training import epoch_program

PyTree = Any
MakeTx = Callable[..., optax.GradientTransformation]


class Member(NamedTuple):
    """What differs from one run to the next; in a population each array has one more axis."""

    hyperparameters: dict[str, jax.Array]
    arrays: epoch_program.Arrays
    frozen: PyTree
    train_rows: jax.Array | None
    valid_rows: jax.Array | None
    key: jax.Array


class Whole(NamedTuple):
    """The results of a whole run."""

    run: epoch_program.Run
    history: jax.Array  # shape (epochs, 3), float32, as `Measured.losses`; NaN after the end
    measured: epoch_program.Measured  # of the last epoch


def whole_run(
    program: epoch_program.Program,
    tx: optax.GradientTransformation,
    member: Member,
    train: epoch_program.Data,
    valid: epoch_program.Data,
    epochs: int,
    patience: Any,
    *,
    side_by_side: bool = False,
) -> Whole:
    """Runs epochs with the stopping rule of `fit`, without the host."""

    def goes_on(whole: Whole) -> jax.Array:
        run, _, measured = whole
        waited = run.epoch - jnp.maximum(run.best_epoch, 1)
        return (run.epoch < epochs) & (waited < patience) & jnp.isfinite(measured.losses[0])

    def next_epoch(whole: Whole) -> Whole:
        inputs = (member.frozen, train, valid, member.key)
        run, measured = epoch_program.one_epoch(
            program, tx, whole.run, *inputs, side_by_side=side_by_side
        )
        history = whole.history.at[whole.run.epoch].set(measured.losses)
        return Whole(run, history, measured)

    before = Whole(
        epoch_program.first_run(program, member.arrays, tx),
        jnp.full((epochs, 3), jnp.nan, jnp.float32),
        epoch_program.nothing_measured(member.arrays.params),
    )
    return jax.lax.while_loop(goes_on, next_epoch, before)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def whole_runs(
    program: epoch_program.Program,
    make_tx: MakeTx,
    epochs: int,
    side_by_side: int,
    members: Member,
    train: epoch_program.Data,
    valid: epoch_program.Data,
    patience: jax.Array,
) -> Whole:
    """All members' runs: blocks of `side_by_side` under `vmap`, one block after another."""

    def one(member: Member) -> Whole:
        return whole_run(
            program,
            make_tx(**member.hyperparameters),
            member,
            train._replace(rows=member.train_rows).relative(),
            valid._replace(rows=member.valid_rows).relative(),
            epochs,
            patience,
            side_by_side=side_by_side > 1,
        )

    if side_by_side == 1:
        return jax.lax.map(one, members)
    if side_by_side >= len(members.key):
        return jax.vmap(one)(members)
    return jax.lax.map(one, members, batch_size=side_by_side)
