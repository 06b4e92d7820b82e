"""After the first loss that is not finite nothing moves, and what happened is told."""

import functools
import re
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training
from jaxopt_cards.training import epoch_program as _epoch
from jaxopt_cards.training import many_runs as _many
from tests.training.blobs import TRAIN, VALID

pytestmark = pytest.mark.usefixtures("compiled_as_for_users")

ADAM = jc.adam(1e-2)
BAD = np.where(np.arange(150) == 77, 9, TRAIN.y)  # one label that makes the loss infinite


def flagged(outputs, y):
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, y % 9)
    return jnp.where(y == 9, jnp.inf, losses)


def net(seed=0):
    noise = {"batch_norm": True, "dropout_rate": 0.3}
    return layers.MLP(6, 3, units=(8, 8), rngs=nnx.Rngs(seed), **noise)


def program_of(model, plateau=None):
    options = _epoch.Options(plateau=plateau)
    return _epoch.prepared(model, nnx.Param, flagged, 10, options)


def halted_run(tx, plateau=None):
    """A run after an epoch with the bad example, the run before it, and at which step it was."""
    program, arrays, frozen = program_of(net(), plateau)
    before = _epoch.first_run(program, arrays, tx)
    train = _epoch.Data(jnp.asarray(TRAIN.x), jnp.asarray(BAD, jnp.int32))
    valid = _epoch.Data(jnp.asarray(VALID.x), jnp.asarray(VALID.y))
    epoch = jax.jit(functools.partial(_epoch.one_epoch, program, tx))
    after, measured = epoch(before, frozen, train, valid, jax.random.key(1))
    return after, before, measured, (program, train)


def test_all_is_what_it_was_before_the_step_of_that_loss():
    plateau = jc.reduce_on_plateau(factor=0.5, patience=1)
    after, before, measured, (program, train) = halted_run(ADAM, plateau)
    last = int(measured.bad_step) - 1
    assert 0 < last < 14
    key = jax.random.fold_in(jax.random.key(1), 0)
    order = jnp.argsort(jax.random.bits(key, (150,))).reshape(15, 10)
    assert 77 in order[last]
    step = jax.jit(
        functools.partial(
            _epoch.one_step, program, ADAM, before.plateau, {}, train, jax.random.fold_in(key, 15)
        )
    )
    carry = (before.model, before.opt_state, jnp.zeros((), jnp.int32))
    for number in range(last):
        batch = (jnp.int32(number + 1), order[number], jnp.full(10, 0.1, jnp.float32))
        carry, _ = step(carry, batch)
    is_key = lambda leaf: jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)  # noqa: E731
    plain = lambda tree: jax.tree.map(  # noqa: E731
        lambda leaf: jax.random.key_data(leaf) if is_key(leaf) else leaf, tree
    )
    got, wanted = plain((after.model, after.opt_state)), plain(carry[:2])
    chex.assert_trees_all_close(got, wanted, rtol=1e-5, atol=1e-6)
    assert int(after.opt_state[0].count) == last
    counts = [v for v in jax.tree.leaves(after.model.variables) if v.dtype == jnp.uint32]
    assert max(map(int, counts)) == 2 * last  # two layers drop units
    chex.assert_trees_all_equal(after.plateau, before.plateau)


def test_the_loop_copies_neither_weights_nor_moments():
    _, before, _, (program, train) = halted_run(ADAM)
    inputs = ({}, train, train, jax.random.key(0))
    text = _epoch.compiled_epoch().lower(program, ADAM, before, *inputs).compile().as_text()
    assert " while(" in text
    # Other shapes than the batch's: those of kernels.
    assert not re.search(r"= f32\[(6,8|8,8)\]\S* copy\(", text)


def test_fit_hands_back_the_state_that_belongs_to_the_weights():
    with pytest.warns(RuntimeWarning, match="the loss is not finite since step") as caught:
        result = training.fit(
            net(), ADAM, train=(TRAIN.x, BAD), valid=VALID, loss=flagged, batch_size=10, epochs=4,
            seed=1, progress=False,
        )  # fmt: skip
    assert {warning.filename for warning in caught} == {__file__}  # the caller's line
    assert result.stopped == "not finite"
    step = int(re.search(r"since step (\d+) of epoch 1", result.trouble)[1])
    assert str(caught[0].message) == f"fit: {result.trouble}"
    assert int(result.opt_state[0].count) == step - 1
    chex.assert_tree_all_finite(result.opt_state)
    statistics = nnx.to_pure_dict(nnx.state(result.last, nnx.BatchStat))
    chex.assert_tree_all_finite(statistics)


@pytest.mark.parametrize("side_by_side", [1, 2])
def test_each_member_of_a_population_halts_by_itself(monkeypatch, side_by_side):
    monkeypatch.setattr(_many, "_result", lambda program, member, whole, *rest: whole)
    folds = [(np.arange(50), np.arange(100, 150)), (np.arange(50, 100), np.arange(100, 150))]
    good, bad = training.fit_many(
        [net(), net(1)], ADAM, train=(TRAIN.x, BAD), folds=folds, loss=flagged, batch_size=10,
        epochs=3, side_by_side=side_by_side, progress=False,
    )  # fmt: skip
    assert int(good.run.opt_state[0].count) == 15
    assert int(bad.run.epoch) == 1
    assert int(bad.run.opt_state[0].count) == int(bad.measured.bad_step) - 1
    chex.assert_tree_all_finite(bad.run.opt_state)
    counts = [v for v in jax.tree.leaves(bad.run.model.variables) if v.dtype == np.uint32]
    assert max(map(int, counts)) == 2 * (int(bad.measured.bad_step) - 1)


def test_a_stream_keeps_its_statistics_where_the_step_is_skipped():
    loss = lambda outputs, y: jnp.where(y == 9, jnp.nan, flagged(outputs, y))  # noqa: E731
    batches = [(TRAIN.x[:4], TRAIN.y[:4]), (1e38 * np.sign(TRAIN.x[:4]), np.full(4, 9))]
    tx = jc.skip_nonfinite(jc.sgd(1e-3))
    one, two = (training.fit_online(net(), tx, batches[:n], loss=loss) for n in (1, 2))
    assert np.isfinite(two.losses).tolist() == [True, False]
    of = lambda result: nnx.to_pure_dict(nnx.state(result.model, nnx.BatchStat))  # noqa: E731
    chex.assert_trees_all_equal(of(one), of(two))


class Rising(nnx.Module):
    """Its one parameter rises by 0.1 an epoch."""

    def __init__(self):
        self.bias = nnx.Param(jnp.zeros(()))

    def __call__(self, x):
        return jnp.broadcast_to(self.bias[...], len(x))


def rising(low, high, value, run=training.fit, **kwargs):
    """Seven epochs; between the bounds the validation loss has this value."""

    def loss(outputs, y):
        inside = (outputs > low) & (outputs < high) & (y == 1)
        return jnp.where(inside, value, jnp.where(y == 1, 1 - outputs, -outputs))

    x = np.zeros((2, 1), np.float32)
    settings = {"train": (x, np.zeros(2)), "valid": (x, np.ones(2)), "loss": loss}
    return run(
        tx=jc.sgd(0.1), batch_size=2, epochs=7, progress=False, **settings | kwargs
    )  # fmt: skip


CASES = {
    "the last epoch": (0.65, 9, [7], "in epoch 7,"),
    "the middle": (0.25, 0.35, [3], "in epoch 3,"),
    "several": (0.25, 0.45, [3, 4], "in epoch 3 and in 1 later one,"),
    "the end": (0.45, 9, [5, 6, 7], "in epoch 5 and in 2 later ones,"),
}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("case", CASES)
def test_a_validation_loss_that_is_not_finite_is_told_and_never_the_best(case, value):
    low, high, epochs, message = CASES[case]
    with pytest.warns(RuntimeWarning, match="^fit: the validation loss is not finite"):
        result = rising(low, high, value, model=Rising())
    assert message in result.trouble
    valid = result.history.valid_loss
    assert (np.flatnonzero(~np.isfinite(valid)) + 1).tolist() == epochs
    assert result.best_epoch == 1 + np.argmin(np.where(np.isfinite(valid), valid, np.inf))
    assert result.stopped == "epochs"
    several = functools.partial(training.fit_many, [Rising()])
    (same,) = rising(low, high, value, run=several)
    assert (same.trouble, same.best_epoch) == (result.trouble, result.best_epoch)


def test_where_all_is_finite_nothing_is_told():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rising(8, 9, np.nan, model=Rising()).trouble == ""


def test_a_run_resumed_after_it_failed_says_so_again(tmp_path):
    settings = {"loss": flagged, "batch_size": 10, "epochs": 4, "seed": 1, "progress": False}
    settings |= {"train": (TRAIN.x, BAD), "valid": VALID, "checkpoints": tmp_path}
    with pytest.warns(RuntimeWarning, match="not finite since step"):
        first = training.fit(net(), ADAM, **settings)
    with pytest.warns(RuntimeWarning, match="the loss is not finite in epoch 1"):
        again = training.fit(net(), ADAM, **settings)
    chex.assert_trees_all_equal(again.opt_state, first.opt_state)


def test_early_stopping_takes_no_infinite_value_for_the_best():
    stopping = training.EarlyStopping(patience=2)
    state = stopping.init()
    for loss in (1.0, -np.inf, np.nan):
        state = stopping.update(state, loss)
    assert float(state.best) == 1.0
    assert state.stop
