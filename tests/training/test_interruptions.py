"""SIGTERM at any moment ends with status 143, and what was trained is kept."""

import functools
import signal
import warnings

import chex
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from jaxopt_cards.training import epoch_program as _epoch
from jaxopt_cards.training import run as _fit
from jaxopt_cards.training.checkpoints import FitCheckpointer
from jaxopt_cards.training.progress import Reporter
from jaxopt_cards.training.termination import Termination
from jaxopt_cards.transfer import fine_tuning as _fine_tune
from tests.training.blobs import TRAIN, VALID

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ADAM = jc.adam(1e-2)
STATUS = 128 + signal.SIGTERM


def net():
    return layers.MLP(6, 3, units=(8,), dropout_rate=0.2, rngs=nnx.Rngs(0))


def fit(folder, **kwargs):
    settings = {"train": TRAIN, "valid": VALID, "batch_size": 40, "epochs": 4, "progress": False}
    settings |= {"checkpoints": folder and training.Checkpoints(folder, every=2)}
    return training.fit(net(), ADAM, **settings | kwargs)


def params_of(result):
    return nnx.to_pure_dict(nnx.state(result.model, nnx.Param))


def interrupt(monkeypatch, owner, name, *, after=False, times=1, number=signal.SIGTERM):
    """Makes a function get the signal before it does its work, or after it, at its first call."""
    original, left = getattr(owner, name), [times]

    @functools.wraps(original)
    def interrupted(*args, **kwargs):
        now, left[0] = left[0], 0
        if not after:
            for _ in range(now):
                signal.raise_signal(number)
        result = original(*args, **kwargs)
        if after:
            for _ in range(now):
                signal.raise_signal(number)
        return result

    monkeypatch.setattr(owner, name, interrupted)


MOMENTS = {
    "the checks": ((_fit, "check_model"), 0),
    "the first state": ((_epoch, "first_run"), 0),
    "compilation": ((_epoch, "compiled_epoch"), 0),
    "opening": ((FitCheckpointer, "__init__"), 0),
    "restoring": ((FitCheckpointer, "restore"), 0),
    "an epoch": ((Reporter, "epoch"), 1),
    "writing": ((FitCheckpointer, "save"), 3),
}


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
def test_sigterm_at_any_moment(tmp_path, monkeypatch, moment, after, times):
    place, saved = MOMENTS[moment]
    with monkeypatch.context() as patched:
        interrupt(patched, *place, after=after, times=times)
        with pytest.raises(SystemExit) as left:
            fit(tmp_path)
    assert left.value.code == STATUS
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    steps = [int(path.name) for path in tmp_path.iterdir()] if tmp_path.exists() else []
    assert max(steps, default=0) == saved
    resumed, whole = fit(tmp_path), fit(None)
    chex.assert_trees_all_equal(params_of(resumed), params_of(whole))
    np.testing.assert_array_equal(resumed.history.train_loss, whole.history.train_loss)


def test_sigterm_before_a_loss_was_finite_is_no_failure(tmp_path, monkeypatch):
    late = lambda outputs, y: jnp.where(  # noqa: E731
        (y == 0) & (jnp.abs(outputs[:, 0]) < 1e9), jnp.nan, outputs[:, 0]
    )
    valid = (VALID.x, np.zeros_like(VALID.y))
    train = (TRAIN.x, np.ones_like(TRAIN.y))
    interrupt(monkeypatch, Reporter, "epoch")
    with pytest.raises(SystemExit) as left:
        fit(tmp_path, loss=late, valid=valid, train=train)
    assert left.value.code == STATUS


def test_a_full_disk_is_told_also_after_sigterm(tmp_path, monkeypatch):
    def full(self):
        raise OSError("No space left on device")

    interrupt(monkeypatch, Reporter, "epoch")
    monkeypatch.setattr(FitCheckpointer, "wait", full)
    with pytest.raises(OSError, match="No space left"):
        fit(tmp_path)


def test_without_checkpoints_the_signal_is_not_held_back(monkeypatch):
    seen = []
    monkeypatch.setattr(Reporter, "epoch", lambda *_: seen.append(signal.getsignal(signal.SIGTERM)))
    fit(None)
    assert set(seen) == {signal.SIG_DFL}


def test_ctrl_c_stays_what_it_is(tmp_path, monkeypatch):
    # A process that a shell started in the background ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patched:
        interrupt(patched, Reporter, "epoch", number=signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path)
    signal.signal(signal.SIGINT, before)
    chex.assert_trees_all_equal(params_of(fit(tmp_path)), params_of(fit(None)))


def nested():
    with Termination(active=True) as outer:
        with Termination(active=True) as inner:
            signal.raise_signal(signal.SIGTERM)
            assert outer.asked
            assert inner.asked
        raise AssertionError("the inner one leaves")


def test_an_inner_run_heeds_what_an_outer_one_holds_back():
    with pytest.raises(SystemExit) as left:
        nested()
    assert left.value.code == STATUS
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def fine_tune(folder=None, make_tx=jc.adam, **kwargs):
    settings = {"train": TRAIN, "valid": VALID, "batch_size": 50, "progress": False}
    settings |= {"epochs": 2, "freeze_epochs": 2, "checkpoints": folder}
    model = layers.MLP(6, 3, units=(8,), rngs=nnx.Rngs(0))
    return transfer.fine_tune(model, make_tx, **settings | kwargs)


def test_sigterm_between_the_stages_of_fine_tune(tmp_path, monkeypatch):
    for after, name in ((False, "migrate_state"), (True, "_optimizer"), (True, "fit")):
        folder = tmp_path / name
        with monkeypatch.context() as patched:
            interrupt(patched, _fine_tune, name, after=after)
            with pytest.raises(SystemExit) as left:
                fine_tune(folder)
        assert left.value.code == STATUS
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        resumed, whole = fine_tune(folder), fine_tune()
        chex.assert_trees_all_equal(params_of(resumed), params_of(whole))


def diverging(step):
    """Makes an optimizer whose rate explodes at this step of the head."""
    return lambda rate: jc.sgd(lambda count: jnp.where(count >= step, 1e38, 1e-2))


def test_fine_tune_keeps_the_stages_before_one_that_diverges(tmp_path):
    for folder in (None, tmp_path, tmp_path):  # the last is resumed
        message = "fine_tune: stage 1 failed; .* never finite"
        with pytest.warns(RuntimeWarning, match=message) as caught:
            result = fine_tune(folder, DIVERGING)
        assert {warning.filename for warning in caught} == {__file__}
        assert result.stopped == "not finite"
        assert "fit: the validation loss was never finite" in result.trouble
        assert len(result.history.valid_loss) == 2
        measured = training.evaluate(result.model, *VALID)["loss"]
        assert measured == pytest.approx(result.history.valid_loss.min(), rel=1e-5)
        chex.assert_tree_all_finite(nnx.to_pure_dict(nnx.state(result.last, nnx.Param)))
    with pytest.raises(FloatingPointError, match="the validation loss was never finite"):
        fine_tune(None, diverging(0))


DIVERGING = diverging(6)  # 3 steps an epoch, 2 epochs of the first stage


def test_a_stage_that_diverges_later_is_part_of_the_result():
    with pytest.warns(RuntimeWarning, match="the loss is not finite since step"):
        result = fine_tune(None, diverging(10))
    assert result.stopped == "not finite"
    assert len(result.history.valid_loss) == 4
    assert np.isnan(result.history.valid_loss[-1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fine_tune().trouble == ""
