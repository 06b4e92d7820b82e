"""Features computed once: in memory, or on disk where only what is whole and fresh is used."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training, transfer
from jaxopt_cards.transfer import feature_files as _feature_files
from tests.limits import no_file_longer_than


def model(seed=0, units=(8, 6, 4), classes=3, **kwargs):
    return layers.MLP(5, classes, units=units, rngs=nnx.Rngs(seed), **kwargs)


def params_of(net):
    return nnx.to_pure_dict(nnx.state(net, nnx.Param))


def examples(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return data.Examples(rng.normal(size=(n, 5)).astype("float32"), rng.integers(0, 3, n))


def with_(number):
    """Inputs, one of which is not a number that a network can take."""
    x = examples().x.astype(float)
    x[21, 2] = number
    return x


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def cached(folder, net=None, upto=2, task=None, **kwargs):
    task = examples() if task is None else task
    return transfer.cache_features(net or model(), upto, task, directory=folder, **kwargs).x


@pytest.fixture
def written(monkeypatch):
    """The files that were written, one by one: an empty list means that a cache was used."""
    names = []
    write = _feature_files._write

    def noted(file, *args):
        names.append(file.name)
        return write(file, *args)

    monkeypatch.setattr(_feature_files, "_write", noted)
    return names


def test_training_on_cached_features_gives_the_same_parameters(tmp_path):
    net, task, held_out = model(), examples(), examples(seed=1)
    settings = {"batch_size": 7, "epochs": 10, "progress": False}
    adam = jc.adam(0.01)
    whole = training.fit(
        net, adam, train=task, valid=held_out, trainable=transfer.freeze("hidden"), **settings
    )
    for folder in (None, tmp_path):
        train, valid = (
            transfer.cache_features(net, 3, x, directory=folder) for x in (task, held_out)
        )
        assert isinstance(train.x, np.memmap) == (folder is not None)
        head = training.fit(net.logits, adam, train=train, valid=valid, **settings)
        chex.assert_trees_all_close(
            params_of(whole.model.logits), params_of(head.model), rtol=1e-4, atol=1e-6
        )
        assert whole.best_epoch == head.best_epoch


def test_features_are_those_of_evaluation_whatever_the_batches():
    net, task = model(dropout_rate=0.5, batch_norm=True), examples(23)
    for norm in (net.hidden1_norm, net.hidden2_norm):
        norm.mean[...] += 0.1
        norm.var[...] *= 2
    statistics = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(net, nnx.BatchStat)))
    whole = transfer.cache_features(net, 2, task)
    parts = transfer.cache_features(net, 2, task, batch_size=5)
    chex.assert_trees_all_equal(nnx.to_pure_dict(nnx.state(net, nnx.BatchStat)), statistics)
    net.eval()
    expected = nnx.jit(lambda net: net.features(task.x, 2))(net)
    np.testing.assert_allclose(whole.x, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(parts.x, whole.x, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(parts.y, task.y)


def test_the_disk_gives_the_bits_of_memory_read_only(tmp_path, written):
    net, task = model(activation="prelu", dropout_rate=0.2), examples(23)
    in_memory = transfer.cache_features(net, 2, task, batch_size=5)
    for _ in range(2):
        on_disk = transfer.cache_features(net, 2, task, batch_size=5, directory=tmp_path / "new")
        assert isinstance(on_disk.x, np.memmap)
        assert not on_disk.x.flags.writeable
        np.testing.assert_array_equal(on_disk.x, in_memory.x, strict=True)
        np.testing.assert_array_equal(on_disk.y, task.y)
    assert len(written) == 1
    (name,) = written
    assert files(tmp_path / "new") == [name.replace(".npy", ".json"), name]
    read = np.load(tmp_path / "new" / name, allow_pickle=False)
    np.testing.assert_array_equal(read, in_memory.x, strict=True)


def test_features_of_half_precision(tmp_path, written):
    class Half(nnx.Module):
        def features(self, x, upto):
            return jnp.asarray(x, jnp.bfloat16) * upto

    for _ in range(2):
        x = cached(tmp_path, Half(), 3)
        assert x.dtype == jnp.bfloat16
        assert isinstance(x, np.memmap)
        np.testing.assert_array_equal(x, transfer.cache_features(Half(), 3, examples()).x)
    assert len(written) == 1


def other_lower_part():
    net = model()
    net.hidden2.bias[...] = net.hidden2.bias[...].at[0].add(1e-6)
    return net


MISSES = {
    "other weights": lambda: {"net": other_lower_part()},
    "other activation": lambda: {"net": model(activation="tanh")},
    "other layer": lambda: {"upto": 1},
    "other inputs": lambda: {"task": examples(seed=1)},
    "fewer inputs": lambda: {"task": examples(39)},
    "one bit of the inputs": lambda: {"task": (np.nextafter(examples().x, 9), examples().y)},
    "inputs of another type": lambda: {"task": (examples().x.astype("float64"), examples().y)},
    "other batches": lambda: {"batch_size": 7},
}


@pytest.mark.parametrize("change", MISSES.values(), ids=MISSES)
def test_another_model_or_other_data_are_computed_anew(tmp_path, written, change):
    first = np.array(cached(tmp_path))
    settings = change()
    got = cached(tmp_path, **settings)
    assert len(set(written)) == 2
    np.testing.assert_array_equal(got, cached(None, **settings))
    np.testing.assert_array_equal(cached(tmp_path), first)
    assert len(written) == 2


def test_precision_is_part_of_the_program(tmp_path, written):
    net = model()
    cached(tmp_path, net)
    with jax.default_matmul_precision("highest"):
        cached(tmp_path, net)
    assert len(set(written)) == 2


def test_the_layers_above_the_noise_and_the_labels_do_not_count(tmp_path, written):
    cached(tmp_path)
    net = transfer.replace_head(model(), 7, rngs=nnx.Rngs(5))
    net.hidden3.kernel[...] += 1
    cached(tmp_path, net, task=(examples().x, examples().y[::-1]))
    noisy = model(dropout_rate=0.5)
    noisy.dropout(jnp.ones(3))
    cached(tmp_path, noisy)
    assert len(written) == 1


def test_what_a_layer_closes_over_counts(tmp_path, written):
    class Shifted(nnx.Module):
        def __init__(self, shift):
            self.shift = nnx.data(shift)

        def features(self, x, upto):
            return x + hidden

    for hidden in (np.arange(200.0, dtype="float32").reshape(40, 5), np.ones((40, 5), "float32")):
        np.testing.assert_array_equal(cached(tmp_path, Shifted(None)), examples().x + hidden)
    assert len(set(written)) == 2


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def change_manifest(file, **changes):
    manifest = file.with_suffix(".json")
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


DAMAGES = {
    "truncated": truncate,
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "empty": lambda file: file.write_bytes(b""),
    "missing": lambda file: file.unlink(),
    "of the right size": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "pickled": lambda file: np.save(file, np.array([{}]), allow_pickle=True),
    "other shape": lambda file: np.save(file, np.load(file).T.copy()),
    "column by column": lambda file: np.save(file, np.asfortranarray(np.load(file))),
    "no manifest": lambda file: file.with_suffix(".json").unlink(),
    "manifest truncated": lambda file: truncate(file.with_suffix(".json")),
    "manifest not text": lambda file: file.with_suffix(".json").write_bytes(b"\xff\xfe"),
    "manifest too deep": lambda file: file.with_suffix(".json").write_text("[" * 99_999),
    "manifest of a list": lambda file: file.with_suffix(".json").write_text("[]"),
    "other sum": lambda file: change_manifest(file, crc32=0),
    "other format": lambda file: change_manifest(file, format=2),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_cache_is_computed_again(tmp_path, written, damage):
    expected = np.array(cached(tmp_path))
    damage(tmp_path / written[0])
    np.testing.assert_array_equal(cached(tmp_path), expected)
    np.testing.assert_array_equal(cached(tmp_path), expected)
    assert len(written) == 2
    assert len(files(tmp_path)) == 2


def test_any_flipped_bit_is_found(tmp_path, written):
    expected = np.array(cached(tmp_path))
    file, found = tmp_path / written[0], _feature_files._found
    content = file.read_bytes()
    for place in range(0, len(content), 3):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        file.write_bytes(flipped)
        assert found(file, expected.shape, expected.dtype) is None
    file.write_bytes(content)
    np.testing.assert_array_equal(found(file, expected.shape, expected.dtype), expected)


def test_a_cache_in_use_stays_while_it_is_written_again(tmp_path, written):
    in_use = cached(tmp_path)
    expected = np.array(in_use)
    (tmp_path / written[0]).with_suffix(".json").unlink()
    cached(tmp_path)
    np.testing.assert_array_equal(in_use, expected)
    assert len(written) == 2


def test_a_full_disk_is_an_error_and_leaves_no_half_file(tmp_path):
    message = f"could not be written to {tmp_path}: .*File too large"
    with no_file_longer_than(500), pytest.raises(OSError, match=message):
        cached(tmp_path)
    assert files(tmp_path) == []
    np.testing.assert_array_equal(cached(tmp_path), cached(None))


def test_a_model_that_breaks_half_way_leaves_no_half_file(tmp_path, monkeypatch):
    from jaxopt_cards.transfer import features as _features

    def broken(run, state, x, batch_size):
        yield np.asarray(run(state, x[:7]))
        raise ArithmeticError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(_features, "batches", broken)
        with pytest.raises(ArithmeticError, match="out of memory"):
            cached(tmp_path)
    assert files(tmp_path) == []


# Three processes, of which one is killed before the first file has its name, one before the second.
OTHERS = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.transfer.test_features import cached
replace = Path.replace
def run(folder, left):
    def killed(self, target):
        nonlocal left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return replace(self, target)
    Path.replace = killed
    cached(Path(folder))
    os._exit(0)
for left in range(3):
    if not os.fork():
        run(f"{sys.argv[2]}/{left}", left)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """The folder in which they wrote, and how they ended."""
    folder, root = tmp_path_factory.mktemp("others"), Path(__file__).parents[2]
    command = [sys.executable, "-c", OTHERS, str(root), str(folder)]
    ends = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return folder, [int(end) for end in ends]


@pytest.mark.parametrize("files_in_place", [0, 1])
def test_a_killed_run_leaves_nothing_that_is_taken_for_whole(others, written, files_in_place):
    folder, ends = others[0] / str(files_in_place), others[1]
    assert ends[files_in_place] == -signal.SIGKILL
    hidden = [name for name in files(folder) if name.startswith(".")]
    assert (len(files(folder)), len(hidden)) == (2, 2 - files_in_place)
    np.testing.assert_array_equal(cached(folder), cached(None))
    assert len(written) == 1


def test_a_cache_is_found_by_another_process(others, written):
    folder, ends = others[0] / "2", others[1]
    assert ends[2] == 0
    assert len(files(folder)) == 2
    np.testing.assert_array_equal(cached(folder), cached(None))
    assert written == []


def test_writers_of_the_same_features_do_not_disturb_each_other(tmp_path):
    shape, dtype, together = (4096, 16), np.dtype("float32"), threading.Barrier(8, timeout=60)

    def one(seed):
        # Features that differ, as those of another machine may: no one may see a file of each.
        rows = np.full(shape, seed, dtype)
        for key in range(20):
            together.wait()
            found = _feature_files.on_disk(tmp_path, f"{key}", [rows], shape, dtype)
            assert len(np.unique(found)) == 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(8)))
    assert len(files(tmp_path)) == 40


def test_inputs_may_be_mapped_from_a_file(tmp_path, written):
    np.save(tmp_path / "x.npy", examples().x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    folder = tmp_path / "cache"
    np.testing.assert_array_equal(cached(folder, task=(mapped, examples().y)), cached(folder))
    assert len(written) == 1


def test_caches_lie_side_by_side_and_may_be_moved(tmp_path, written):
    cached(tmp_path / "here")
    cached(tmp_path / "here", upto=1)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    cached(tmp_path / "there", upto=1)
    assert len(written) == 2


@pytest.mark.parametrize(
    ("upto", "task", "message"),
    [
        (0, examples(), "cache_features: upto must be a whole number >= 1, got 0"),
        (4, examples(), "cache_features: upto must be at most 3, got 4"),
        (1, (examples().x[:0], examples().y[:0]), "cache_features: data must have equally many"),
        (1, (examples().x, examples().y[:3]), r"got the shapes \(40, 5\) and \(3,\)"),
        (1, (examples().x[:, :4], examples().y), r"not take inputs of the shape \(4,\)"),
        (
            1,
            (*examples(), np.ones(40)),
            r"data must be \(x, y\).*; add weights to the result: \(\*cac",
        ),
        (1, 3, r"data must be \(x, y\), arrays of numbers, got int"),
        (
            1,
            (with_(np.nan), examples().y),
            r"the inputs of data must be finite, got nan at \[21, 2",
        ),
        (
            1,
            (with_(1e300), examples().y),
            r"the inputs of data must be finite in float32, got 1e\+300 at \[21, 2",
        ),
        (1, (examples().x, with_(-np.inf)[:, 2]), r"the labels of data .* got -inf at \[21\]"),
        (1, (np.array([{}] * 3), np.zeros(3)), "not take inputs of the shape|arrays of numbers"),
    ],
)
@pytest.mark.parametrize("on_disk", [False, True])
def test_bad_input_to_the_cache(tmp_path, upto, task, message, on_disk):
    folder = tmp_path / "cache" if on_disk else None
    with pytest.raises(ValueError, match=message):
        transfer.cache_features(model(), upto, task, batch_size=10, directory=folder)
    assert files(tmp_path) == []


def test_bad_models_and_folders(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cache_features: directory must be a folder, got '/"):
        cached(tmp_path / "file")
    with pytest.raises(ValueError, match=r"must be an nnx.Module with a method features.*Linear"):
        cached(tmp_path, nnx.Linear(5, 3, rngs=nnx.Rngs(0)))

    class Mean(nnx.Module):
        def features(self, x, upto):
            return x.mean()

    with pytest.raises(ValueError, match="features must be one array with a row for each input"):
        cached(tmp_path, Mean())


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 8, 8), (4, 8, 8, 3)])
def test_a_convolution_takes_pictures_alone(shape):
    class Net(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))

        def features(self, x, upto):
            return self.conv(x)

    message = (
        rf"cache_features: the model does not take inputs of the shape {re.escape(str(shape[1:]))}"
    )
    with pytest.raises(ValueError, match=message):
        transfer.cache_features(Net(), 1, (np.ones(shape, "float32"), np.zeros(4, int)))
