"""Folders of Orbax that a stranger might send are refused, in little memory and time."""

import json
import os
import shutil
import time

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest

from jaxopt_cards import training, transfer
from jaxopt_cards.transfer.files import orbax_process as _orbax_process

TREE = {"a": np.arange(6, dtype="float32").reshape(2, 3), "l": [np.ones(2, "int8"), 3, 2.5]}


def saved(folder, tree=TREE, **kwargs):
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**kwargs)) as saver:
        saver.save(folder, tree)
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder without a database: each array has its own, which is easily changed."""
    return saved(tmp_path_factory.mktemp("plain") / "net", use_ocdbt=False)


@pytest.fixture
def folder(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "net")


def restored(folder, **kwargs):
    return transfer.restore({"a": np.zeros((2, 3), "float32")}, folder, **kwargs)


@pytest.mark.parametrize(
    "kwargs", [{}, {"use_ocdbt": False}, {"use_zarr3": True}], ids=["database", "folders", "zarr3"]
)
def test_all_that_orbax_writes_comes_back(tmp_path, kwargs):
    tree = TREE | {"b": {"c.d/e": jnp.ones((2, 2), jnp.bfloat16)}, "n": None, "e": {}}
    params = {"a": np.zeros((2, 3), "float32"), "l": [np.zeros(2, "int8"), 0, 0.0]}
    params["b"] = {"c.d": {"e": np.zeros((2, 2), ml_dtypes.bfloat16)}}
    filled, report = transfer.restore(params, saved(tmp_path / "net", tree, **kwargs))
    assert sorted(report.taken) == ["a", "b/c.d/e", "l/0", "l/1", "l/2"]
    np.testing.assert_array_equal(filled["a"], TREE["a"])
    np.testing.assert_array_equal(filled["b"]["c.d"]["e"], np.ones((2, 2)))
    np.testing.assert_array_equal(filled["l"][0], [1, 1])
    assert [int(filled["l"][1]), float(filled["l"][2])] == [3, 2.5]


def test_an_array_larger_than_a_pipe_comes_back(tmp_path):
    tree = {"a": np.arange(2**20, dtype="int32").reshape(2**10, 2**10)}
    filled, _ = transfer.restore({"a": np.zeros_like(tree["a"])}, saved(tmp_path / "net", tree))
    np.testing.assert_array_equal(filled["a"], tree["a"])


def change_array(folder, **fields):
    file = folder / "a" / ".zarray"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def change_metadata(folder, change):
    file = folder / "_METADATA"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))


def with_name(about, name):
    entry = next(iter(about["tree_metadata"].values()))
    entry["key_metadata"] = [{"key": name, "key_type": 2}]
    return about


def bomb(size, path):
    """A frame of zstd of so many zeros: blocks of 4 bytes that each stand for 128 KiB."""
    block = (2**17 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (2**17 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"\0"
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([7 << 3])
    path.write_bytes(frame + block * (size // 2**17 - 1) + last)


HOSTILE = {
    "a huge array": (
        lambda f: change_array(f, shape=[2**16, 2**16], chunks=[2**10, 2**10]),
        r"would take 17179869184 bytes for 'a', and max_bytes is 8589934592",
    ),
    "a huge piece": (
        lambda f: change_array(f, chunks=[2**16, 2**16]),
        r"would take 17179869184 bytes for 'a', and max_bytes is 8589934592",
    ),
    "a piece that expands": (lambda f: bomb(2**31, f / "a" / "0.0"), r"is damaged"),
    "many dimensions": (lambda f: change_array(f, shape=[1] * 99, chunks=[1] * 99), "is damaged"),
    "a pipe": (
        lambda f: (f / "a" / "0.0").unlink() or os.mkfifo(f / "a" / "0.0"),
        "has 'a/0.0', which is not a regular file",
    ),
    "no piece": (lambda f: (f / "a" / "0.0").write_bytes(b""), "is damaged"),
    "a lost piece": (lambda f: (f / "a" / "0.0").unlink(), "is damaged, .*NOT_FOUND"),
    "an object": (lambda f: change_array(f, dtype="|O"), "is damaged"),
    "a name elsewhere": (
        lambda f: change_metadata(f, lambda about: with_name(about, "../elsewhere")),
        r"has the name '../elsewhere', which leads elsewhere",
    ),
    "a forged line": (
        lambda f: change_metadata(f, lambda about: with_name(about, "/a\ntaken    a\x1b[1m")),
        r"has the name '/a\\ntaken    a\\x1b\[1m', which leads elsewhere",
    ),
    "no tree": (
        lambda f: change_metadata(f, lambda _: {}),
        "is damaged, or of another format: KeyError",
    ),
    "a list": (
        lambda f: change_metadata(f, lambda _: []),
        "is damaged, or of another format: AttributeError",
    ),
    "deep": (
        lambda f: (f / "_METADATA").write_text("[" * 10**6),
        "is damaged, or of another format: RecursionError",
    ),
    "long metadata": (
        lambda f: (f / "_METADATA").write_bytes(b" " * (_orbax_process.MOST_METADATA + 1)),
        "has metadata of more than",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_folders_are_refused_at_once(folder, kind):
    damage, message = HOSTILE[kind]
    damage(folder)
    start = time.monotonic()
    with pytest.raises(ValueError, match=rf"restore: {folder} {message}"):
        restored(folder)
    assert time.monotonic() - start < 20  # a second, where the machine has nothing else to do


def test_a_pipe_beside_a_checkpoint_is_not_opened(folder, tmp_path):
    about = tmp_path / "run" / "1" / "about"
    about.mkdir(parents=True)
    shutil.copytree(folder, about.parent / "run")
    os.mkfifo(about / "metadata")
    with pytest.raises(ValueError, match="1 is damaged; delete it to use the checkpoint before it"):
        restored(tmp_path / "run")


def test_what_the_arrays_take_together_is_limited(folder):
    with pytest.raises(ValueError, match=r"would take 42 bytes, and max_bytes is 41"):
        restored(folder, max_bytes=41)
    assert restored(folder, max_bytes=42)[1].taken == {"a": "a"}


def test_long_texts_beside_a_checkpoint_are_not_read(tmp_path, monkeypatch):
    from jaxopt_cards.training import checkpoints as _checkpoints

    with training.Checkpointer(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, {"x": jnp.ones(2)})
    (tmp_path / "2" / "about" / "metadata").write_bytes(b" " * 10**5)
    monkeypatch.setattr(_checkpoints, "MOST_METADATA", 10**4)
    told = pytest.warns(RuntimeWarning, match=r"2: about/metadata has more than 10,000 bytes")
    with training.Checkpointer(tmp_path) as checkpoints, told:
        assert checkpoints.restore({"x": jnp.ones(2)})[0] == 1
