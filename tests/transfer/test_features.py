"""Features computed once: in memory, or on disk where only what is whole and fresh is used."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training, transfer
from jaxopt_cards.transfer import _feature_files


def model(seed=0, units=(8, 6, 4), classes=3, **kwargs):
    return layers.MLP(5, classes, units=units, rngs=nnx.Rngs(seed), **kwargs)


def params_of(net):
    return nnx.to_pure_dict(nnx.state(net, nnx.Param))


def examples(n=40, seed=0):
    rng = np.random.default_rng(seed)
    return data.Examples(rng.normal(size=(n, 5)).astype("float32"), rng.integers(0, 3, n))


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


@pytest.mark.parametrize("on_disk", [False, True])
def test_training_on_cached_features_gives_the_same_parameters(tmp_path, on_disk):
    net, task, held_out = model(), examples(), examples(seed=1)
    settings = {"batch_size": 7, "epochs": 10, "progress": False}
    adam = jc.adam(0.01)
    whole = training.fit(
        net, adam, train=task, valid=held_out, trainable=transfer.freeze("hidden"), **settings
    )
    folder = tmp_path if on_disk else None
    parts = [transfer.cache_features(net, 3, part, directory=folder) for part in (task, held_out)]
    assert isinstance(parts[0].x, np.memmap) == on_disk
    head = training.fit(net.logits, adam, train=parts[0], valid=parts[1], **settings)
    chex.assert_trees_all_close(
        params_of(whole.model.logits), params_of(head.model), rtol=1e-4, atol=1e-6
    )
    assert whole.best_epoch == head.best_epoch


def test_features_are_those_of_evaluation_whatever_the_batches():
    net, task = model(dropout_rate=0.5, batch_norm=True), examples(23)
    net(task.x)  # moves the running statistics
    statistics = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(net, nnx.BatchStat)))
    whole = transfer.cache_features(net, 2, task)
    parts = transfer.cache_features(net, 2, task, batch_size=5)
    chex.assert_trees_all_equal(nnx.to_pure_dict(nnx.state(net, nnx.BatchStat)), statistics)
    net.eval()
    np.testing.assert_allclose(whole.x, net.features(task.x, 2), rtol=1e-5, atol=1e-6)
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
    cached(tmp_path)
    with jax.default_matmul_precision("highest"):
        cached(tmp_path)
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


def test_a_cache_is_found_by_another_process(tmp_path, written):
    code = (
        "import sys, numpy as np; sys.path.insert(0, sys.argv[1]);"
        "from tests.transfer.test_features import cached; from pathlib import Path;"
        "cached(Path(sys.argv[2]))"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    command = [sys.executable, "-c", code, root, str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    assert len(files(tmp_path)) == 2
    np.testing.assert_array_equal(cached(tmp_path), cached(None))
    assert written == []


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
    file, rng = tmp_path / written[0], random.Random(0)
    for trial in range(25):
        content = bytearray(file.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        file.write_bytes(content)
        np.testing.assert_array_equal(cached(tmp_path), expected)
        assert len(written) == 2 + trial


def test_a_cache_in_use_stays_while_it_is_written_again(tmp_path, written):
    in_use = cached(tmp_path)
    expected = np.array(in_use)
    (tmp_path / written[0]).with_suffix(".json").unlink()
    cached(tmp_path)
    np.testing.assert_array_equal(in_use, expected)
    assert len(written) == 2


def test_a_full_disk_is_an_error_and_leaves_no_half_file(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(OSError, match=f"could not be written to {tmp_path}. Is the disk full"):
            cached(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files(tmp_path) == []
    np.testing.assert_array_equal(cached(tmp_path), cached(None))


def test_a_model_that_breaks_half_way_leaves_no_half_file(tmp_path, monkeypatch):
    from jaxopt_cards.transfer import _features

    def broken(lower, x, batch_size):
        yield np.asarray(lower.run(lower.state, x[:7]))
        raise ArithmeticError("out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(_features, "_batches", broken)
        with pytest.raises(ArithmeticError, match="out of memory"):
            cached(tmp_path)
    assert files(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from jaxopt_cards.transfer import _feature_files
from tests.transfer.test_features import cached
replace, left = Path.replace, [int(sys.argv[3])]
def killed(self, target):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return replace(self, target)
Path.replace = killed
cached(Path(sys.argv[2]))
"""


@pytest.mark.parametrize("files_in_place", [0, 1])
def test_a_killed_run_leaves_nothing_that_is_taken_for_whole(tmp_path, written, files_in_place):
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    command = [sys.executable, "-c", KILLED, root, str(tmp_path), str(files_in_place)]
    assert subprocess.run(command, capture_output=True).returncode == -signal.SIGKILL
    assert len(files(tmp_path)) == 1 + files_in_place
    np.testing.assert_array_equal(cached(tmp_path), cached(None))
    assert len(written) == 1


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
        (4, examples(), "MLP.features: upto must be at most 3, got 4"),
        (1, (examples().x[:0], examples().y[:0]), "cache_features: data must have as many inputs"),
        (1, (examples().x, examples().y[:3]), r"got the shapes \(40, 5\) and \(3,\)"),
        (1, (examples().x[:, :4], examples().y), r"not take inputs of the shape \(4,\)"),
        (1, (*examples(), np.ones(40)), r"data must be \(x, y\).*; weights stay outside: \(\*cac"),
        (1, 3, r"data must be \(x, y\), arrays of numbers, got int"),
        (1, (np.array([{}] * 3), np.zeros(3)), "not take inputs of the shape|arrays of numbers"),
    ],
)
@pytest.mark.parametrize("on_disk", [False, True])
def test_bad_input_to_the_cache(tmp_path, upto, task, message, on_disk):
    folder = tmp_path / "cache" if on_disk else None
    with pytest.raises(ValueError, match=message):
        transfer.cache_features(model(), upto, task, directory=folder)
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
