"""Parts restored from files and folders of any known format, with a report."""

import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from safetensors.numpy import save_file

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training, transfer

FOREIGN = Path(__file__).parent / "foreign"
NORMS = {r"^hidden(\d)_norm": r"norm\1"}


BESIDE_WEIGHTS = {
    "dropout/rate": "a rate is not a weight",
    "dropout/rngs/count": "a random stream is not a weight",
    "dropout/rngs/key": "a random stream is not a weight",
}


def net(**kwargs):
    model = layers.MLP(64, 10, units=(16, 8), batch_norm=True, rngs=nnx.Rngs(0), **kwargs)
    model.eval()
    return model


def arrays(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Any(nnx.Param, nnx.BatchStat)))


@pytest.mark.parametrize(
    ("name", "rename", "network"),
    [
        ("torch.pt", NORMS, "torch"),
        ("torch_checkpoint.pt", NORMS | {"^": "state_dict/"}, "torch"),
        ("keras.keras", None, "keras"),
        ("keras.weights.h5", None, "keras"),
        ("keras_legacy.h5", None, "keras"),
    ],
)
def test_a_foreign_network_says_here_what_it_said_there(name, rename, network):
    expected = np.load(FOREIGN / "outputs.npz")
    model, report = transfer.restore(net(), FOREIGN / name, rename=rename)
    assert not report.skipped
    assert not report.refused
    assert len(report.taken) == 12
    np.testing.assert_allclose(model(expected["x"]), expected[network], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "said"), [("keras", True), ("weights.h5", False), ("legacy.h5", True)]
)
def test_the_epsilon_of_keras_is_not_lost(name, said):
    expected = np.load(FOREIGN / "outputs.npz")
    path = FOREIGN / (f"keras_epsilon_{name}" if "legacy" in name else f"keras_epsilon.{name}")

    def outputs(**epsilon):
        model = layers.MLP(64, 10, units=(16,), batch_norm=True, rngs=nnx.Rngs(0))
        model.eval()
        model, report = transfer.restore(model, transfer.from_keras(path, **epsilon))
        assert len(report.taken) == 7
        return np.asarray(model(expected["x"]))

    theirs = expected["keras_epsilon"]
    np.testing.assert_allclose(outputs(epsilon=1e-3), theirs, rtol=1e-5, atol=1e-5)
    # What the file says comes first; without a word of it, the outputs are others.
    assert np.allclose(outputs(), theirs, rtol=1e-5, atol=1e-5) == said
    with pytest.raises(ValueError, match=r"from_keras: epsilon must lie in \[0, inf\), got -1"):
        outputs(epsilon=-1)


def test_the_format_is_told_by_the_content(tmp_path):
    model = net()
    flat = {
        "/".join(path): np.asarray(a)
        for path, a in nnx.traversals.flatten_mapping(arrays(model)).items()
    }
    np.savez(tmp_path / "numpy.pt.npz", **flat)
    save_file(flat, tmp_path / "net.npz")
    (tmp_path / "numpy.pt.npz").rename(tmp_path / "numpy.pt")
    (tmp_path / "net.keras").write_bytes((FOREIGN / "torch.pt").read_bytes())
    for name, rename in {"numpy.pt": None, "net.npz": None, "net.keras": NORMS}.items():
        _, report = transfer.restore(net(), str(tmp_path / name), rename=rename)
        assert len(report.taken) == 12, name


def test_a_part_of_a_file_can_be_taken():
    model, report = transfer.restore(net(), FOREIGN / "torch.pt", "hidden[12]/", None)
    assert list(report.taken) == ["hidden1/kernel", "hidden2/kernel"]
    assert "logits/bias" in report.skipped
    assert "norm1/mean" in report.unused
    source = transfer.from_torch(FOREIGN / "torch.pt")
    np.testing.assert_array_equal(model.hidden1.kernel[...], source["hidden1"]["kernel"])


@pytest.mark.parametrize("state", [True, False], ids=["state", "dictionary"])
def test_folders_of_orbax(tmp_path, state):
    saved = net()
    saved.hidden1.kernel[...] += 1
    tree = nnx.state(saved, nnx.Any(nnx.Param, nnx.BatchStat)) if state else arrays(saved)
    with ocp.StandardCheckpointer() as saver:
        saver.save(tmp_path / "net", tree)
    model, report = transfer.restore(net(), tmp_path / "net")
    assert not report.skipped
    jax.tree.map(np.testing.assert_array_equal, arrays(model), arrays(saved))


def test_another_head_in_a_folder_of_orbax_is_refused_not_taken(tmp_path):
    with ocp.StandardCheckpointer() as saver:
        saver.save(tmp_path / "net", arrays(net()))
    other = layers.MLP(64, 5, units=(16, 8), batch_norm=True, rngs=nnx.Rngs(0))
    other, report = transfer.restore(other, tmp_path / "net")
    assert report.refused == {
        "logits/bias": "expected float32[5], got float32[10]",
        "logits/kernel": "expected float32[8, 5], got float32[8, 10]",
    }
    assert other.logits.kernel.shape == (8, 5)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train, valid, _ = data.digits()
    # With wrong labels, so that each epoch is worse than the one before.
    result = training.fit(
        net(dropout_rate=0.1),
        jc.sgd(0.1),
        train=data.Examples(train.x[:64], (train.y[:64] + 1) % 10),
        valid=valid,
        epochs=5,
        progress=False,
        checkpoints=training.Checkpoints(folder, every=1),
    )
    return folder, result


def test_the_best_model_of_a_checkpoint_dir(fitted):
    folder, result = fitted
    assert result.best_epoch < 5
    model, report = transfer.restore(net(dropout_rate=0.1), folder)
    assert report.skipped == BESIDE_WEIGHTS
    jax.tree.map(np.testing.assert_array_equal, arrays(model), arrays(result.model))


def test_a_damaged_checkpoint_dir_is_refused(fitted, tmp_path):
    copy = shutil.copytree(fitted[0], tmp_path / "copy")
    biggest = max((copy / "5" / "run").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(biggest.read_bytes())
    content[len(content) // 2] ^= 4
    biggest.write_bytes(content)
    with pytest.raises(ValueError, match=r"restore: .*5.* is damaged"):
        transfer.restore(net(), copy)
    (copy / "5" / "about" / "metadata").unlink()
    with pytest.raises(ValueError, match=r"restore: .*5.* is damaged"):
        transfer.restore(net(), copy)


def test_folders_and_files_of_no_known_format(tmp_path):
    with pytest.raises(ValueError, match=r"restore: .* is neither a folder of orbax"):
        transfer.restore(net(), tmp_path)
    (tmp_path / "notes.txt").write_text("hidden1/kernel = 1")
    with pytest.raises(ValueError, match=r"restore: .*notes.txt is of an unknown format"):
        transfer.restore(net(), tmp_path / "notes.txt")
    with pytest.raises(FileNotFoundError):
        transfer.restore(net(), tmp_path / "missing.npz")
    with training.Checkpointer(tmp_path / "own") as checkpoints:
        checkpoints.save(1, {"kernel": np.ones(2)})
    with pytest.raises(ValueError, match=r"has no best model: training.fit did not write it"):
        transfer.restore(net(), tmp_path / "own")


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_another_precision_is_refused_unless_asked_for(dtype):
    params = {"kernel": np.zeros(2, "float32"), "bias": np.zeros(2, "float32")}
    saved = {"kernel": np.array([0.1, np.inf]).astype(dtype), "bias": np.ones(2, "float32")}
    filled, report = transfer.restore(params, saved)
    assert report.refused == {
        "kernel": f"expected float32[2], got {dtype}[2]; cast=True would cast it"
    }
    np.testing.assert_array_equal(filled["kernel"], 0)
    filled, report = transfer.restore(params, saved, cast=True)
    np.testing.assert_array_equal(filled["kernel"], saved["kernel"].astype("float32"))
    assert filled["kernel"].dtype == "float32"
    assert report.cast == {"kernel": dtype}
    assert str(report) == f"taken    bias\ntaken    kernel, cast from {dtype}"


def test_what_would_become_infinite_or_is_of_another_kind_is_not_cast():
    params = {"a": np.zeros(1, "float16"), "b": np.zeros(1, "float32"), "c": np.zeros(1, "float32")}
    saved = {"a": np.array([1e6], "float32"), "b": np.array([1]), "c": np.zeros(2)}
    with pytest.raises(ValueError, match=r"(?s)a: expected float16\[1\], got float32\[1\].*int64"):
        transfer.restore(params, saved, cast=True)


def test_bfloat16_and_nan_survive(tmp_path):
    saved = np.array([1.5, np.nan], ml_dtypes.bfloat16)
    save_file({"kernel": saved}, tmp_path / "net.safetensors")
    filled, _ = transfer.restore({"kernel": np.zeros(2, saved.dtype)}, tmp_path / "net.safetensors")
    assert filled["kernel"].dtype == saved.dtype
    np.testing.assert_array_equal(np.asarray(filled["kernel"], "float32"), [1.5, np.nan])


def test_unasked_arrays_are_told_and_nothing_is_half_restored():
    params = {"a": np.zeros(2), "b": np.zeros(2)}
    saved = {"a": np.ones(2), "c": np.ones(3)}
    filled, report = transfer.restore(params, saved)
    assert report.unused == ("c",)
    np.testing.assert_array_equal(params["a"], 0)
    np.testing.assert_array_equal(filled["b"], 0)


@pytest.mark.parametrize("as_state", [False, True], ids=["module", "state"])
def test_rates_and_random_streams_stay(as_state):
    theirs = layers.MLP(64, 10, units=(16, 8), batch_norm=True, dropout_rate=0.5, rngs=nnx.Rngs(7))
    theirs(np.ones((2, 64), "float32"))  # its stream and its statistics go on
    ours = net(dropout_rate=0.2)
    model, report = transfer.restore(nnx.state(ours) if as_state else ours, theirs)
    assert report.skipped == BESIDE_WEIGHTS
    model = nnx.merge(nnx.graphdef(ours), model) if as_state else model
    assert float(model.dropout.rate[...]) == np.float32(0.2)
    assert int(model.dropout.rngs.count[...]) == 0
    jax.tree.map(np.testing.assert_array_equal, arrays(model), arrays(theirs))
    with pytest.raises(ValueError, match=r"dropout/rate: a rate is not a weight"):
        transfer.restore(net(dropout_rate=0.2), theirs, "dropout/rate")


def test_a_random_key_is_not_filled_with_numbers():
    params = {"key": jax.random.key(0), "kernel": np.zeros(2)}
    _, report = transfer.restore(params, {"key": np.zeros(2, "uint32"), "kernel": np.ones(2)})
    assert report.skipped == {"key": "a random key is not a weight"}
    filled, _ = transfer.restore(params, params | {"key": jax.random.key(1)})
    assert filled["key"] == jax.random.key(1)


@pytest.mark.parametrize("replacement", [3, None, r"\3", r"\g<layer>"])
def test_replacements_that_cannot_be_are_named(replacement):
    with pytest.raises(ValueError, match=r"restore: rename has 'hidden', whose replacement must"):
        transfer.restore(net(), net(), rename={"hidden": replacement})


@pytest.mark.parametrize("text", ["abc", "f4", np.array(["abc"]), b"abc", object()])
def test_leaves_that_are_no_numbers_are_named(text):
    array = np.ones(2)
    with pytest.raises(ValueError, match=r"restore: checkpoint at 'a' must be an array, got"):
        transfer.restore({"a": array}, {"a": text})
    with pytest.raises(ValueError, match=r"restore: params at 'a' must be an array, got"):
        transfer.restore({"a": text}, {"a": array})
    # It may stand beside what is taken.
    assert transfer.restore({"a": array}, {"a": array, "note": text})[1].unused == ("note",)


def test_numbers_of_python_are_arrays_without_axes():
    filled, report = transfer.restore({"a": 1.0, "b": 2}, {"a": 3.0, "b": 4.0})
    assert (filled["a"], filled["b"]) == (3, 2)
    assert report.refused == {"b": "expected int64[], got float64[]"}
