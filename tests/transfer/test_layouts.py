"""What neither names nor shapes of saved weights tell is said in the report."""

import io
import json
import zipfile

import h5py
import jax
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from jaxopt_cards import layers, transfer

SQUARE = np.arange(9, dtype="float32").reshape(3, 3)


class Block(nnx.Module):
    """Layers that a shape or a name does not tell everything of."""

    def __init__(self, epsilon=1e-6, norm_epsilon=1e-5, transpose_kernel=False):
        rngs = nnx.Rngs(0)
        settings = {"transpose_kernel": transpose_kernel, "use_bias": False, "rngs": rngs}
        self.square = nnx.Linear(3, 3, use_bias=False, rngs=rngs)
        self.wide = nnx.Linear(3, 4, use_bias=False, rngs=rngs)
        self.up = nnx.ConvTranspose(3, 3, (2, 2), **settings)
        self.ln = nnx.LayerNorm(3, epsilon=epsilon, rngs=rngs)
        self.bn = nnx.BatchNorm(3, epsilon=norm_epsilon, rngs=rngs)


def state_of(model):
    """What a file of PyTorch would have."""
    norm = {"weight": np.ones(3, "f4"), "bias": np.zeros(3, "f4")}
    running = {"running_mean": np.zeros(3, "f4"), "running_var": np.ones(3, "f4")}
    return {
        "square.weight": SQUARE,
        "wide.weight": np.ones((4, 3), "f4"),
        "up.weight": np.ones((3, 3, 2, 2), "f4"),
        **{f"ln.{name}": array for name, array in norm.items()},
        **{f"bn.{name}": array for name, array in (norm | running).items()},
    }


def test_all_that_a_file_of_pytorch_leaves_open(tmp_path):
    save_file(state_of(Block()), tmp_path / "net.safetensors", {"format": "pt"})
    by_file = transfer.restore(Block(), tmp_path / "net.safetensors")[1]
    by_dictionary = transfer.restore(Block(), transfer.from_torch(state_of(Block())))[1]
    for report in (by_file, by_dictionary):
        assert list(report.warnings) == ["square/kernel", "ln", "up/kernel"]
        lines = [line for line in str(report).splitlines() if line.startswith("warning")]
        assert "square/kernel: is square, so its shape does not tell whether" in lines[0]
        assert "a kernel of PyTorch or Keras needs nnx.ConvTranspose(transpose_k" in lines[2]
        assert "ln: has epsilon=1e-06, NNX's default; PyTorch's is 1e-05" in lines[1]


def test_what_was_set_needs_no_warning():
    model = Block(epsilon=1e-5, transpose_kernel=True)
    report = transfer.restore(model, transfer.from_torch(state_of(model)), "ln|bn|up|wide")[1]
    assert report.warnings == {}
    report = transfer.restore(Block(norm_epsilon=1e-3), transfer.from_torch(state_of(model)))[1]
    assert "epsilon=0.001; PyTorch's default, and what from_keras expects" in report.warnings["bn"]


def test_weights_of_flax_leave_nothing_open(tmp_path):
    assert transfer.restore(Block(), Block(norm_epsilon=1e-3))[1].warnings == {}
    assert transfer.restore(Block(), nnx.state(Block()))[1].warnings == {}
    saved = {"a": {"kernel": jax.numpy.asarray(SQUARE)}}
    assert transfer.restore({"a": {"kernel": SQUARE}}, saved)[1].warnings == {}


def test_many_square_kernels_are_one_line():
    params = {f"layer{index}": {"kernel": SQUARE} for index in range(5)}
    report = transfer.restore(params, params)[1]
    assert list(report.warnings) == [f"layer{index}/kernel" for index in range(5)]
    assert "warning  layer0/kernel, layer1/kernel, layer2/kernel and 2 more: is square" in str(
        report
    )


def keras_file(path, with_epsilon=True):
    """A file of Keras 3 with the same layers; square kernels lie as in NNX."""
    arrays = {
        "square": ("Dense", [SQUARE]),
        "up": ("Conv2DTranspose", [np.ones((2, 2, 3, 3), "f4")]),
        "ln": ("LayerNormalization", [np.ones(3, "f4"), np.zeros(3, "f4")]),
        "bn": ("BatchNormalization", [np.ones(3, "f4")] * 4),
    }
    with h5py.File(stream := io.BytesIO(), "w") as file:
        for name, (kind, variables) in arrays.items():
            group = file.create_group(f"layers/{kind}/vars")
            group.attrs["name"] = name
            for index, array in enumerate(variables):
                group[str(index)] = array
    epsilons = {"ln": 0.002, "bn": 0.001}
    listed = [
        {"class_name": kind, "config": {"name": name, "epsilon": epsilons.get(name)}}
        for name, (kind, _) in arrays.items()
    ]
    config = {"class_name": "Functional", "config": {"name": "net", "layers": listed}}
    if not with_epsilon:
        path.write_bytes(stream.getvalue())
        return path
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", stream.getvalue())
    return path


def test_a_file_of_keras_says_its_epsilons(tmp_path):
    path = keras_file(tmp_path / "net.keras")
    report = transfer.restore(Block(), path)[1]
    assert list(report.warnings) == ["ln", "up/kernel"]
    assert report.warnings["ln"] == "needs epsilon=0.002, here it is 1e-06"
    model = Block(epsilon=0.002, transpose_kernel=True)
    assert transfer.restore(model, path)[1].warnings == {}
    # The variance was made for NNX's default.
    report = transfer.restore(Block(0.002, 0.001, True), path)[1]
    assert report.warnings == {"bn": "needs epsilon=1e-05, here it is 0.001"}


@pytest.mark.parametrize("rename", [None, {"^": "net/"}])
def test_weights_of_keras_alone_do_not_say_them(tmp_path, rename):
    path = keras_file(tmp_path / "net.weights.h5", with_epsilon=False)
    model = Block(epsilon=0.001, transpose_kernel=True)
    if rename:
        with h5py.File(path, "r+") as file:
            file.move("layers", "inner")
            file.move("inner", "layers/net/layers")
            file.create_group("layers/net/vars").attrs["name"] = "net"
    report = transfer.restore(model, path, rename=rename)[1]
    assert "Keras's default is 0.001, use from_keras(path, epsilon=0.001)" in report.warnings["bn"]
    assert report.warnings["ln"].endswith("here it is 0.001, Keras's default 0.001")


def test_the_layers_of_a_multilayer_perceptron_are_compared(tmp_path):
    model = layers.MLP(3, 3, units=(3,), batch_norm=True, rngs=nnx.Rngs(0))
    arrays = {"hidden1_norm.running_var": np.ones(3, "f4"), "hidden1.weight": SQUARE}
    report = transfer.restore(model, transfer.from_torch(arrays))[1]
    assert list(report.warnings) == ["hidden1/kernel"]
