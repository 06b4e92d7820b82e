"""Checkpoints survive kills, damage, full disks and SIGTERM; what comes back has the same bits."""

import concurrent.futures
import errno
import gc
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training
from jaxopt_cards.training import Checkpointer
from jaxopt_cards.training.termination import Termination
from tests.limits import no_file_longer_than

# Orbax leaves tasks behind when a file cannot be read or written; Python tells of them when it
# collects them, which the fixture below makes it do in the test that they are of.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TX = jc.adam(1e-2)
EPOCHS = 14
RUN = f"""
import sys, time
import jax, numpy as np
from flax import nnx
import jaxopt_cards as jc
from jaxopt_cards import layers, training
from jaxopt_cards.training import run as _fit
from jaxopt_cards.training import progress as _progress

class Paced(_progress.Reporter):
    def epoch(self, *numbers):
        super().epoch(*numbers)
        time.sleep(0.05)  # a signal sent after a line is seen arrives before the run is over

_fit.Reporter = Paced
_progress.SECONDS_BETWEEN_LINES = -1  # a line an epoch
rng = np.random.default_rng(0)
y = rng.integers(0, 3, 90).astype(np.int32)
x = (np.eye(3, 6)[y] + rng.normal(size=(90, 6))).astype(np.float32)
folder, out, every = sys.argv[1:]
result = training.fit(
    layers.MLP(6, 3, units=(8,), dropout_rate=0.2, rngs=nnx.Rngs(0)), jc.adam(1e-2),
    train=(x[:60], y[:60]), valid=(x[60:], y[60:]), batch_size=7, epochs={EPOCHS},
    checkpoints=training.Checkpoints(folder, int(every)) if folder else None,
)
leaves = jax.tree.leaves(nnx.to_pure_dict(nnx.state(result.model, nnx.Param)))
np.savez(out, *leaves, *result.history[:3], best_epoch=result.best_epoch)
"""


@pytest.fixture(autouse=True)
def _collected():
    yield
    gc.collect()


def start(folder, out, every=1):
    """A run in a process of its own; the lines it prints tell how far it is."""
    command = [sys.executable, "-u", "-c", RUN, str(folder), str(out), str(every)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True)


def epochs_of(process):
    """The numbers of the epochs, as they end."""
    for line in process.stdout:
        if line.startswith("epoch "):
            yield int(line.split()[1].rstrip(":"))


def assert_same_files(one, other):
    one, other = np.load(one), np.load(other)
    assert len(one.files) == 4 + 3 + 1
    assert one.files == other.files
    for name in one.files:
        assert one[name].tobytes() == other[name].tobytes(), name


def tree(value):
    """All kinds of leaves."""
    return {
        "kernel": jnp.linspace(value, value + 1, 600).reshape(30, 20),
        "state": [jnp.full((3,), value, jnp.bfloat16), jax.random.key(value)],
        "count": jnp.array(value, jnp.int32),
        "host": np.full(2, value, np.int16),
    }


def assert_same_bits(got, expected):
    chex.assert_trees_all_equal_structs(got, expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A folder in which three steps were saved; two are left."""
    folder = tmp_path_factory.mktemp("three")
    with Checkpointer(folder, {"seed": 0}) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tree(step), notes={"step": step, "loss": float("nan")})
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]
    return folder


@pytest.fixture
def folder(three, tmp_path):
    return shutil.copytree(three, tmp_path / "run")


def restored(folder, **identity):
    with Checkpointer(folder, identity or {"seed": 0}) as checkpoints:
        return checkpoints.restore(tree(0))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What a run gives that nobody interrupts and that writes no checkpoint."""
    out = tmp_path_factory.mktemp("whole") / "out.npz"
    process = start("", out)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return out


def test_a_run_killed_at_any_moment_ends_with_the_same_bits(tmp_path, uninterrupted):
    delays, firsts, lasts = random.Random(0), [], [1]
    # Epochs seen by each process before its end comes: in the first save, soon, and later.
    for seen in (1, 4, 3):
        process = start(tmp_path / "run", tmp_path / "out.npz")
        numbers = list(itertools.islice(epochs_of(process), seen))
        time.sleep(delays.uniform(0.0, 0.1))
        process.kill()
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        firsts.append(numbers[0])
        lasts.append(numbers[-1])
    process = start(tmp_path / "run", tmp_path / "out.npz")
    firsts.append(next(epochs_of(process)))
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    # A save waits for the one before it: only the one under way is lost.
    for first, last in zip(firsts, lasts, strict=True):
        assert first >= last - 1
    assert_same_files(tmp_path / "out.npz", uninterrupted)


def test_sigterm_ends_the_epoch_saves_and_leaves(tmp_path, uninterrupted):
    process = start(tmp_path / "run", tmp_path / "out.npz", every=100)
    epochs = epochs_of(process)
    assert next(epochs) == 1
    process.terminate()
    last = max([1, *epochs])
    _, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, errors
    assert [path.name for path in (tmp_path / "run").iterdir()] == [str(last)]
    assert last < EPOCHS
    process = start(tmp_path / "run", tmp_path / "out.npz", every=100)
    assert next(epochs_of(process)) == last + 1
    process.communicate()
    assert_same_files(tmp_path / "out.npz", uninterrupted)


def test_what_comes_back_has_the_same_bits(folder):
    step, got, notes = restored(folder)
    assert step == notes["step"] == 3
    assert np.isnan(notes["loss"])
    assert_same_bits(got, tree(3))


def test_64_bit_types_and_other_random_keys(tmp_path, x64):
    saved = {"x": jnp.linspace(0, 1, 7), "n": jnp.arange(3), "key": jax.random.key(1, impl="rbg")}
    assert saved["x"].dtype == "float64"
    like = {"x": jnp.zeros(7), "n": jnp.zeros(3, int), "key": jax.random.key(0, impl="rbg")}
    with Checkpointer(tmp_path) as checkpoints:
        checkpoints.save(1, saved)
        assert_same_bits(checkpoints.restore(like)[1], saved)
        with pytest.raises(
            ValueError, match=r"only in it:\n  key: key<rbg>\[\]\nonly in this run:"
        ):
            checkpoints.restore(like | {"key": jax.random.key(0, impl="unsafe_rbg")})


def test_arrays_may_be_donated_while_they_are_written(tmp_path):
    double = jax.jit(lambda x: 2 * x, donate_argnums=0)
    with Checkpointer(tmp_path, max_to_keep=9) as checkpoints:
        x = jnp.ones(300_000)
        for step in range(6):
            checkpoints.save(step, {"x": x})
            x = double(x)
    with Checkpointer(tmp_path, max_to_keep=9) as checkpoints:
        step, got, _ = checkpoints.restore({"x": jnp.zeros(300_000)})
    assert step == 5
    np.testing.assert_array_equal(got["x"], 32.0)


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(file, place=0.6):
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= 16
    file.write_bytes(content)


def largest(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def change_a_note(folder):
    file = folder / "about" / "metadata"
    stored = json.loads(file.read_text())
    stored["about"]["notes"]["step"] = 30
    file.write_text(json.dumps(stored))


DAMAGES = {
    "arrays truncated": lambda folder: truncate(largest(folder / "run")),
    "arrays flipped": lambda folder: flip(largest(folder / "run")),
    "arrays missing": lambda folder: largest(folder / "run").unlink(),
    "no arrays at all": lambda folder: shutil.rmtree(folder / "run"),
    "metadata truncated": lambda folder: truncate(folder / "run" / "_METADATA"),
    "description truncated": lambda folder: truncate(folder / "about" / "metadata"),
    "description not text": lambda folder: (folder / "about" / "metadata").write_bytes(b"\xff" * 9),
    "description of nothing": lambda folder: (folder / "about" / "metadata").write_text("[]"),
    "description changed": change_a_note,
    "no description": lambda folder: shutil.rmtree(folder / "about"),
    "empty": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(folder, damage):
    damage(folder / "3")
    with Checkpointer(folder, {"seed": 0}) as checkpoints:
        with pytest.warns(RuntimeWarning, match=rf"{folder}:\n  3: .*\n.* step 2 is used"):
            step, got, notes = checkpoints.restore(tree(0))
        assert step == notes["step"] == 2
        assert_same_bits(got, tree(2))
        checkpoints.save(3, tree(7), notes={})
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3", "3.damaged"]
    assert_same_bits(restored(folder)[1], tree(7))


def test_any_flipped_bit_is_found_or_harmless(folder):
    rng, outcomes = random.Random(0), set()
    files = [path.relative_to(folder) for path in (folder / "3").rglob("*") if path.is_file()]
    for trial in range(12):
        copy = shutil.copytree(folder, folder.parent / str(trial))
        flip(copy / rng.choice(files), rng.random())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            step, got, _ = restored(copy)
        outcomes.add(step)
        assert_same_bits(got, tree(step))
        assert any("damaged checkpoints" in str(w.message) for w in caught) == (step == 2)
    assert outcomes == {2, 3}


def test_no_good_checkpoint_left_is_an_error_each_time(folder):
    for step in (2, 3):
        truncate(folder / str(step) / "about" / "metadata")
    for _ in range(2):
        with pytest.raises(
            OSError,
            match=r"all checkpoints in .* damaged:\n  3: .*\n  2: .*\nRestore the folder from a",
        ):
            restored(folder)
    with pytest.raises(OSError, match="fit: all checkpoints in"):
        fit(folder, epochs=2)


def test_a_checkpoint_of_another_run_is_refused_not_set_aside(folder):
    for _ in range(2):
        with pytest.raises(ValueError, match=r"holds another run:\n  seed: saved 0, now 1\nGive"):
            restored(folder, seed=1)
    with pytest.raises(ValueError, match="more: saved None, now 1"):
        restored(folder, seed=0, more=1)
    truncate(folder / "3" / "about" / "metadata")
    with pytest.raises(ValueError, match="holds another run"):
        restored(folder, seed=1)
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]


def test_what_a_kill_left_unfinished_is_cleared_away(folder):
    (folder / "3").rename(folder / "3.orbax-checkpoint-tmp")
    with Checkpointer(folder, {"seed": 0}) as checkpoints:
        assert checkpoints.restore(tree(0))[0] == 2
        checkpoints.save(3, tree(3))
    assert sorted(path.name for path in folder.iterdir()) == ["2", "3"]


def fit(folder, **kwargs):
    x = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    settings = {"train": (x[:30], y[:30]), "valid": (x[30:], y[30:]), "epochs": 4, "batch_size": 10}
    settings |= {"progress": False, "checkpoints": folder and training.Checkpoints(folder, every=1)}
    model = layers.MLP(6, 2, units=(64, 64), rngs=nnx.Rngs(0))
    result = training.fit(model, TX, **(settings | kwargs))
    return nnx.to_pure_dict(nnx.state(result.model, nnx.Param))


def test_a_full_disk_is_an_error_and_the_last_good_checkpoint_is_kept(tmp_path):
    folder = tmp_path / "run"
    whole = fit(None)
    fit(folder, epochs=2)
    message = f"fit: the checkpoint of step 3 could not be written to {folder}; that of step 2 is"
    with no_file_longer_than(10_000), pytest.raises(OSError, match=message):
        fit(folder)
    assert {"1", "2"} == {path.name for path in folder.iterdir() if path.name.isdecimal()}
    chex.assert_trees_all_equal(fit(folder), whole)


@pytest.mark.parametrize(
    ("number", "is_full"), [("ENOSPC", True), ("EDQUOT", True), ("EIO", False)]
)
def test_only_a_full_disk_is_called_full(tmp_path, monkeypatch, number, is_full):
    def broken(*args, **kwargs):
        number_of_error = getattr(errno, number)
        raise ValueError("flush") from OSError(number_of_error, os.strerror(number_of_error))

    with Checkpointer(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "save", broken)
        with pytest.raises(OSError, match="step 1 could not be written") as error:
            checkpoints.save(1, tree(1))
    assert ("(the disk is full)" in str(error.value)) == is_full


HOLD = """
import sys, time
from jaxopt_cards.training import Checkpointer
with Checkpointer(sys.argv[1]) as checkpoints:
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_folder_in_use_is_refused_until_its_process_ends(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(folder)]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with first:
        assert first.stdout.readline() == "held\n"
        message = rf"fit: checkpoints {folder} is in use by another process \(pid {first.pid}\)"
        for _ in range(2):
            with pytest.raises(OSError, match=message):
                fit(folder)
        first.kill()
    whole = fit(folder)
    chex.assert_trees_all_equal(whole, fit(None))
    assert not (folder / ".lock").exists()


def test_of_two_runs_on_one_folder_the_first_goes_on_undisturbed(tmp_path):
    with Checkpointer(tmp_path) as checkpoints:
        checkpoints.save(1, tree(1))
        with pytest.raises(OSError, match=r"Checkpointer: directory .* is in use"):
            Checkpointer(tmp_path)
        checkpoints.save(2, tree(2))
    with Checkpointer(tmp_path) as checkpoints:
        assert_same_bits(checkpoints.restore(tree(0))[1], tree(2))


def test_an_error_while_writing_comes_at_once_or_with_the_next_call(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    message = r"step 1 could not .*; there is none before it.*\n.*No space"
    with Checkpointer(tmp_path) as checkpoints, monkeypatch.context() as patched:
        patched.setattr(checkpoints._manager, "save", full)
        with pytest.raises(OSError, match=message):
            checkpoints.save(1, tree(1))
    with Checkpointer(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoints._manager, "_finalize_checkpoint", full)
        checkpoints.save(2, tree(1))
        with pytest.raises(OSError, match="the checkpoint of step 2 could not be written"):
            checkpoints.wait()


def test_an_error_of_the_loop_comes_before_one_of_the_disk(tmp_path):
    def train():
        with Checkpointer(tmp_path) as checkpoints:
            checkpoints.save(1, {"x": jax.random.normal(jax.random.key(0), (30_000,))})
            raise ArithmeticError("training broke")

    with no_file_longer_than(10_000), pytest.raises(ArithmeticError, match="broke") as error:
        train()
    assert "the checkpoint of step 1 could not be written" in error.value.__notes__[0]


def test_a_handler_of_the_users_stays_in_charge(tmp_path):
    seen = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with Termination(active=True) as termination:
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert seen == [signal.SIGTERM]
    assert not termination.asked


def terminated(error=None):
    with Termination(active=True) as termination:
        signal.raise_signal(signal.SIGTERM)
        assert termination.asked
        if error:
            raise error


def test_sigterm_is_handled_for_the_time_of_the_block_only():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with Termination(active=False):
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(SystemExit) as left:
        terminated()
    assert left.value.code == 128 + signal.SIGTERM
    with pytest.raises(ArithmeticError):
        terminated(ArithmeticError)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_runs_in_threads_have_checkpoints_too(tmp_path):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        threaded = pool.submit(fit, tmp_path).result()
    chex.assert_trees_all_equal(threaded, fit(None))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.save(0.5, tree(1)), "Checkpointer: step must be a whole number >= 0, got 0.5"),
        (lambda c: c.save(3, tree(1)), "step must be above 3, which is saved already, got 3"),
        (lambda c: c.save(4, {"x": 1.0}), "leaf 'x' must be an array, got 1.0"),
        (lambda c: c.save(4, {}), "the tree must have arrays, each with its own path"),
        (
            lambda c: c.save(4, {"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}}),
            r"each with its own path, got \['a/b', 'a/b'\]",
        ),
        (lambda c: c.save(4, tree(1), notes={1, 2}), "notes must be what JSON can hold"),
        (lambda c: c.restore({"x": jnp.ones(2)}), r"only in this run:\n  x: float32\[2\]"),
        (lambda c: Checkpointer(c._directory / "f"), "directory must be a folder, got"),
        (lambda c: Checkpointer("x", {"s": 1j}), "identity must be what JSON can hold"),
        (lambda c: Checkpointer("x", max_to_keep=0), "max_to_keep must be a whole number >= 1"),
    ],
)
def test_bad_input(folder, call, message):
    (folder / "f").write_text("")
    with Checkpointer(folder, {"seed": 0}) as checkpoints:
        with pytest.raises(ValueError, match=message):
            call(checkpoints)
        assert checkpoints.restore(tree(0))[0] == 3
