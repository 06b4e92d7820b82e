"""Evaluation every few steps: the same as a plain loop, also when stopped and resumed."""

import chex
import jax
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, reports, training, transfer
from jaxopt_cards.training import epoch_program
from jaxopt_cards.training.checkpoints import Checkpoints
from tests.training.blobs import TRAIN, VALID

ADAM = jc.adam(0.03)
STEPS = 8  # of an epoch: 150 examples in batches of 20
PLATEAU = jc.reduce_on_plateau(patience=2, factor=0.5)


def model():
    return layers.MLP(6, 3, units=(8,), rngs=nnx.Rngs(0))


def fit(tx=ADAM, net=None, **kwargs):
    settings = {"train": TRAIN, "valid": VALID, "batch_size": 20, "progress": False}
    return training.fit(net or model(), tx, **(settings | kwargs))


def params_of(net):
    return nnx.to_pure_dict(nnx.state(net, nnx.Param))


def losses(params, examples):
    net = model()
    nnx.update(net, params)
    return optax.softmax_cross_entropy_with_integer_labels(net(examples.x), examples.y)


def order(epoch):
    """The batches of an epoch, as `fit` shuffles them."""
    key = jax.random.fold_in(jax.random.key(0), epoch)
    rows = np.argsort(np.asarray(jax.random.bits(key, (150,))), kind="stable")
    return [rows[start : start + 20] for start in range(0, 150, 20)]


def by_hand(every, epochs, patience, *, plateau=False):
    """A plain loop: the best parameters, the rows of the history and the last parameters."""
    params, best, rows, seen, done, factor = params_of(model()), None, [], [], 0, 1.0
    state, plateau_state = ADAM.init(params), PLATEAU.init(1.0)
    for epoch in range(epochs):
        for batch in order(epoch):
            part = type(TRAIN)(TRAIN.x[batch], TRAIN.y[batch])
            mean = lambda params, part=part: losses(params, part).mean()  # noqa: E731
            value, grads = jax.value_and_grad(mean)(params)
            seen.append((float(value), len(batch)))
            updates, state = ADAM.update(grads, state, params)
            params = optax.apply_updates(params, optax.tree.scale(factor, updates))
            done += 1
            if done % every:
                continue
            loss = float(losses(params, VALID).mean())
            values, sizes = zip(*seen, strict=True)
            rows.append((done, np.average(values, weights=sizes), loss))
            seen = []
            if plateau:
                factor, plateau_state = PLATEAU.update(factor, plateau_state, value=loss)
                factor = float(factor)
            measured = [row[2] for row in rows]
            if loss == min(measured):
                best = params
            if len(rows) - 1 - int(np.argmin(measured)) >= patience:
                return best, rows, params
    return best, rows, params


@pytest.mark.parametrize(
    ("every", "patience"), [(3, 4), (8, 4), (11, 3), (5, 1000)], ids=lambda number: str(number)
)
def test_equals_a_plain_loop(every, patience):
    result = fit(evaluate_every=every, epochs=12, patience=patience)
    best, rows, last = by_hand(every, 12, patience)
    steps, train, valid = map(np.array, zip(*rows, strict=True))
    np.testing.assert_array_equal(result.history.step, steps)
    np.testing.assert_allclose(result.history.epoch, steps / STEPS)
    np.testing.assert_allclose(result.history.train_loss, train, rtol=2e-3)
    np.testing.assert_allclose(result.history.valid_loss, valid, rtol=2e-3)
    assert result.best_step == steps[valid.argmin()]
    assert result.best_epoch == -(-result.best_step // STEPS)
    assert result.best_row == valid.argmin()
    assert result.stopped == ("patience" if patience < 1000 else "epochs")
    chex.assert_trees_all_close(params_of(result.model), best, rtol=1e-2, atol=1e-3)
    chex.assert_trees_all_close(params_of(result.last), last, rtol=1e-2, atol=1e-3)
    measured = training.evaluate(result.model, *VALID)["loss"]
    np.testing.assert_allclose(measured, result.history.valid_loss[result.best_row], rtol=1e-6)


def test_patience_ends_a_run_in_the_middle_of_an_epoch():
    result = fit(evaluate_every=3, epochs=50, patience=4)
    assert result.stopped == "patience"
    assert result.history.step[-1] % STEPS
    assert result.history.step[-1] - result.best_step == 4 * 3
    assert result.epochs == int(np.ceil(result.history.step[-1] / STEPS))


def test_the_plateau_is_moved_by_each_evaluation():
    result = fit(evaluate_every=3, epochs=6, plateau=PLATEAU)
    _, rows, last = by_hand(3, 6, 1000, plateau=True)
    np.testing.assert_allclose(result.history.valid_loss, [row[2] for row in rows], rtol=2e-3)
    chex.assert_trees_all_close(params_of(result.last), last, rtol=1e-2, atol=1e-3)


def test_once_an_epoch_is_the_usual_run():
    usual, by_steps = fit(epochs=4), fit(epochs=4, evaluate_every=STEPS)
    for name in ("train_loss", "valid_loss", "valid_accuracy", "step", "epoch"):
        columns = (getattr(result.history, name) for result in (usual, by_steps))
        np.testing.assert_allclose(*columns, rtol=1e-5)
    assert (usual.best_epoch, usual.best_step) == (by_steps.best_epoch, by_steps.best_step)
    chex.assert_trees_all_close(params_of(usual.model), params_of(by_steps.model), rtol=1e-5)


def test_without_it_the_program_is_that_of_an_epoch(monkeypatch):
    asked = []
    compiled = epoch_program.compiled_epoch
    monkeypatch.setattr(
        epoch_program, "compiled_epoch", lambda f: asked.append(f.__name__) or compiled(f)
    )
    fit(epochs=1)
    fit(epochs=1, evaluate_every=4)
    assert asked == ["one_epoch", "epoch_by_steps"]


@pytest.mark.parametrize("first", [{"epochs": 1}, {"epochs": 4}, {"epochs": 12, "patience": 1}])
def test_resumes_to_the_same_bits(tmp_path, first):
    """Also from the middle of an epoch, where patience ended the first run."""
    whole = fit(evaluate_every=3, epochs=7)
    saved = Checkpoints(tmp_path, every=1)
    begun = fit(evaluate_every=3, **first, checkpoints=saved)
    assert begun.history.step[-1] < whole.history.step[-1]
    resumed = fit(evaluate_every=3, epochs=7, checkpoints=saved)
    for name in ("train_loss", "valid_loss", "valid_accuracy", "step", "epoch"):
        np.testing.assert_array_equal(
            getattr(resumed.history, name), getattr(whole.history, name), name
        )
    assert (resumed.best_step, resumed.best_epoch) == (whole.best_step, whole.best_epoch)
    for one, other in ((resumed.model, whole.model), (resumed.last, whole.last)):
        chex.assert_trees_all_equal(params_of(one), params_of(other))


def test_a_checkpoint_of_another_interval_is_another_run(tmp_path):
    fit(evaluate_every=3, epochs=1, checkpoints=tmp_path)
    with pytest.raises(ValueError, match="evaluate_every: saved 3, now 4"):
        fit(evaluate_every=4, epochs=2, checkpoints=tmp_path)


def test_a_loss_that_is_not_finite_ends_the_run_at_its_step():
    """The third step of the second epoch, between two evaluations."""
    rate = lambda count: jax.numpy.where(count == 9, 1e30, 0.03)  # noqa: E731
    with pytest.warns(RuntimeWarning, match="since step 3 of epoch 2"):
        result = fit(jc.sgd(rate), evaluate_every=4, epochs=5)
    assert result.stopped == "not finite"
    assert result.history.step.tolist() == [4, 8, 11]
    assert result.best_step == 8
    assert np.isfinite(training.evaluate(result.model, *VALID)["loss"])


def test_the_last_steps_may_have_no_evaluation():
    result = fit(evaluate_every=11, epochs=2)  # of 16 steps
    assert result.history.step.tolist() == [11]
    assert result.best_epoch == 2
    assert np.isfinite(result.seconds)


def test_reports_and_progress_tell_the_steps(tmp_path, capsys):
    result = fit(evaluate_every=3, epochs=2, progress=True)
    assert f"best step {result.best_step} of 15" in capsys.readouterr().out
    path = reports.report(result, tmp_path / "report.html")
    assert "0.375" in (path or tmp_path / "report.html").read_text()


def test_fine_tune_goes_along():
    shared = {"train": TRAIN, "valid": VALID, "batch_size": 20, "progress": False}
    result = transfer.fine_tune(model(), epochs=2, evaluate_every=5, **shared)
    assert result.history.step.tolist() == [5, 8 + 5, 8 + 10, 8 + 15]
    np.testing.assert_allclose(result.history.epoch, result.history.step / STEPS)
    assert result.best_step == result.history.step[result.history.valid_loss.argmin()]
    assert result.best_epoch == -(-result.best_step // STEPS)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: fit(evaluate_every=17, epochs=2), "fit: evaluate_every must be at most the 16 st"),
        (lambda: fit(evaluate_every=0), r"fit: evaluate_every must be a whole number >= 1, got 0"),
        (
            lambda: training.fit_many(
                [model()], ADAM, train=TRAIN, valid=VALID, evaluate_every=3
            ),
            "fit_many: evaluate_every must be left out here: only fit and fine_tune",
        ),
        (
            lambda: training.fit_online(model(), ADAM, [TRAIN], evaluate_every=3),
            "fit_online: evaluate_every must be left out here",
        ),
        (
            lambda: training.cross_validate(model, ADAM, train=TRAIN, evaluate_every=3),
            "cross_validate: evaluate_every must be left out here",
        ),
        (
            lambda: training.learning_rate_range(
                model(), jc.adam, train=TRAIN, valid=VALID, evaluate_every=3
            ),
            "learning_rate_range: evaluate_every must be left out here",
        ),
    ],
)  # fmt: skip
def test_where_it_is_not_offered_it_is_refused(call, told):
    with pytest.raises(ValueError, match=told):
        call()
