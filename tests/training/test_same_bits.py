"""A checkpoint knows what its bits depend on, and says what is another run, part by part."""

import warnings

import chex
import jax
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from jaxopt_cards.storage import environment as _environment
from jaxopt_cards.training import epoch_program as _epoch
from jaxopt_cards.training import run as _fit
from tests.training.blobs import TRAIN, VALID

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("compiled_as_for_users"),
]

ADAM = jc.adam(1e-2)
PLATEAU = jc.reduce_on_plateau()


def net(**kwargs):
    return layers.MLP(6, 3, units=(8,), rngs=nnx.Rngs(0), **kwargs)


def doubled(outputs, y):
    return 2 * optax.softmax_cross_entropy_with_integer_labels(outputs, y)


def fit(folder, model=None, tx=ADAM, **kwargs):
    settings = {"train": TRAIN, "valid": VALID, "batch_size": 50, "epochs": 2, "progress": False}
    settings |= {"checkpoints": folder}
    return training.fit(model or net(), tx, **settings | kwargs)


CHANGES = {
    "threads": (
        lambda m: m.setenv("PJRT_NPROC", "777"),
        rf"threads: saved {_environment._threads()}, now 777",
    ),
    "jax": (
        lambda m: m.setattr(_environment, "_version", lambda library: f"{library}-9"),
        rf"jax: saved '{jax.__version__}', now 'jax-9'\n  jaxlib: saved",
    ),
    "processor": (
        lambda m: m.setattr(_environment, "_processor", lambda: "a new one"),
        "device: saved .*, now 'a new one'",
    ),
    "options": (
        lambda m: m.setattr(_epoch, "compiler_options", dict),
        r"compiler options: saved {'xla_.*, now {}",
    ),
    "flags": (
        lambda m: m.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true --xla_dump_to=/tmp/x"),
        "XLA_FLAGS: saved '.*', now '--xla_cpu_enable_fast_math=true'",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_environment_is_told_and_no_error(tmp_path, monkeypatch, change):
    make, message = CHANGES[change]
    fit(tmp_path)
    with monkeypatch.context() as patched:
        make(patched)
        with pytest.warns(RuntimeWarning, match=rf"in another environment:\n  {message}") as caught:
            resumed = fit(tmp_path, epochs=4)
        assert caught[0].filename == __file__  # that of `fit` above
        assert "cannot be compared" in str(caught[0].message) or change != "jax"
        with warnings.catch_warnings():  # the checkpoint is now of this environment
            warnings.simplefilter("error")
            fit(tmp_path, epochs=6)
    chex.assert_trees_all_equal(resumed.history.train_loss, fit(None, epochs=4).history.train_loss)


def test_the_same_environment_needs_no_word(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path)
        fit(tmp_path, epochs=4)


class Scaled(layers.MLP):
    def __call__(self, x):
        return 2 * super().__call__(x)


@jax.custom_vjp
def gently(x):
    return x


gently.defvjp(lambda x: (x, None), lambda _, gradient: (gradient / 2,))


def halved(outputs, y):
    return gently(optax.softmax_cross_entropy_with_integer_labels(outputs, y))


SET = "another one, or with other settings"
OTHERS = {
    "model": ({"model": Scaled(6, 3, units=(8,), rngs=nnx.Rngs(0))}, f"model: {SET}"),
    "activation": ({"model": net(activation="relu")}, f"model: {SET}"),
    "optimizer": ({"tx": jc.adam(2e-2)}, f"optimizer: {SET}"),
    "loss": ({"loss": doubled}, f"loss: {SET}"),
    "batch size": ({"batch_size": 30}, "batch size: saved 50, now 30"),
    "regularizer": ({"regularizer": layers.l2(1e-3)}, f"regularizer: {SET}"),
    "augment": ({"augment": lambda key, x: x + 1.0}, f"augment: {SET}"),
    "seed": ({"seed": 1}, "seed: saved 0, now 1"),
    "train": ({"train": (*TRAIN, np.arange(150))}, r"training data \(CRC-32\): saved .*"),
    "valid": ({"valid": (*VALID, np.arange(60))}, r"validation data \(CRC-32\): saved .*"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, compiled_as_for_users):
    folder = tmp_path_factory.mktemp("run")
    fit(folder)
    return folder


@pytest.mark.parametrize("what", OTHERS)
def test_what_makes_it_another_run_is_said_in_words(folder, what):
    arguments, message = OTHERS[what]
    with pytest.raises(ValueError, match=rf"holds another run:\n  {message}\nGive this run"):
        fit(folder, **arguments)


def test_several_at_once_and_what_no_part_shows(folder):
    with pytest.raises(ValueError, match=rf":\n  loss: {SET}\n  optimizer: {SET}\nGive"):
        fit(folder, tx=jc.adam(2e-2), loss=doubled)
    with pytest.raises(ValueError, match=rf":\n  (loss: {SET}|the epoch as a whole: .*)\nGive"):
        fit(folder, loss=halved)


def test_a_plateau_and_what_the_optimizer_starts_with(tmp_path):
    fit(tmp_path / "1", plateau=PLATEAU)
    with pytest.raises(ValueError, match=rf"run:\n  plateau: {SET}\nGive"):
        fit(tmp_path / "1", plateau=jc.reduce_on_plateau(factor=0.3))
    inject = lambda rate: optax.inject_hyperparams(optax.sgd)(learning_rate=rate)  # noqa: E731
    with jax.numpy_dtype_promotion("standard"):
        fit(tmp_path / "2", tx=inject(0.1))
        with pytest.raises(ValueError, match=r"run:\n  initial state of the optimizer \(CRC-32\)"):
            fit(tmp_path / "2", tx=inject(0.2))


def test_a_line_search_has_a_program_of_its_own(tmp_path):
    fit(tmp_path, tx=jc.lbfgs())
    with pytest.raises(ValueError, match=rf"run:\n  optimizer: {SET}\nGive"):
        fit(tmp_path, tx=jc.lbfgs(0.5))


def test_another_program_in_another_environment_is_refused_where_it_can_be_told(
    tmp_path, monkeypatch
):
    fit(tmp_path)
    monkeypatch.setenv("PJRT_NPROC", "777")
    with pytest.raises(ValueError, match=rf"run:\n  optimizer: {SET}\nGive"):
        fit(tmp_path, tx=jc.adam(2e-2))


def test_checkpoints_of_the_version_before_resume_with_a_word(tmp_path, monkeypatch):
    of_now = _fit.identity

    def of_before(*run):
        names = ("seed", "training data", "validation data", "frozen param", "initial model")
        return {k: v for k, v in of_now(*run).items() if k.startswith(names)} | {
            "program: model, optimizer, loss, batch size (CRC-32)": 1
        }

    with monkeypatch.context() as patched:
        patched.setattr("jaxopt_cards.training.checkpoints.unlike", lambda *_: ([], ""))
        patched.setattr(_fit, "identity", of_before)
        fit(tmp_path)
    with pytest.raises(ValueError, match=r"run:\n  seed: saved 0, now 1\nGive"):
        fit(tmp_path, seed=1)
    with pytest.warns(RuntimeWarning, match="earlier version.* environment: threads"):
        resumed = fit(tmp_path, epochs=4)
    chex.assert_trees_all_equal(resumed.history.train_loss, fit(None, epochs=4).history.train_loss)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path, epochs=5)


def test_threads_are_counted_as_xla_counts_them(monkeypatch):
    monkeypatch.delenv("PJRT_NPROC", raising=False)
    own = _environment._threads()
    assert own >= 1
    for value, expected in (("3", 3), ("0", own), ("many", own), ("", own)):
        monkeypatch.setenv("PJRT_NPROC", value)
        assert _environment._threads() == expected


def test_features_of_other_threads_are_computed_again(tmp_path, monkeypatch):
    x = np.asarray(TRAIN.x)
    for threads in ("2", "2", "3"):
        monkeypatch.setenv("PJRT_NPROC", threads)
        transfer.cache_features(net(), 1, (x, TRAIN.y), directory=tmp_path)
    assert len(list(tmp_path.glob("*.npy"))) == 2
