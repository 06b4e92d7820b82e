"""Files of several versions of Keras: each layer under its own name, or under none that is one."""

import io
import json
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from jaxopt_cards import transfer

VERSIONS = Path(__file__).parent / "foreign" / "keras_versions"
WITHOUT_NAMES = ("2.15.0", "3.0.5", "3.3.3", "3.5.0")
EPSILONS = {
    "left_norm": 0.01,
    "right_norm": 0.03,
    "auto/batch_normalization_1": 0.05,
    "each/layer": 0.07,
    "deep/mid/norm": 0.05,
}
COUNTS = {"towers": 17, "nested": 24, "legacy": 8}


def numbers(path, shape):
    """As in `foreign/make_keras.py`."""
    random = np.random.default_rng(zlib.crc32(path.encode()))
    return random.uniform(0.5, 1.5, shape).astype("float32")


def check(found, count):
    """Each array is the one of its path."""
    flat = flatten_dict(found, sep="/")
    assert len(flat) == count
    for path, array in flat.items():
        module, _, name = path.rpartition("/")
        expected = numbers(path, array.shape)
        if name == "var":
            expected = expected + np.float32(EPSILONS[module] - 1e-5)
        np.testing.assert_allclose(array, expected, rtol=1e-6, err_msg=path)


@pytest.mark.parametrize("version", [*WITHOUT_NAMES, "3.15.1"])
@pytest.mark.parametrize("model", ["towers", "nested"])
def test_each_layer_has_its_own_arrays_and_epsilon(model, version):
    """Two towers, models in models, shared layers, layers without weights, in a second model."""
    check(transfer.from_keras(VERSIONS / f"{model}_{version}.keras"), COUNTS[model])


@pytest.mark.parametrize("version", ["2.15.0", "3.3.3", "3.15.1"])
def test_models_in_models_of_a_legacy_file(version):
    check(transfer.from_keras(VERSIONS / f"legacy_{version}.h5"), COUNTS["legacy"])


def weights_of(path, tmp_path):
    """The `.weights.h5` of the same model, without configuration."""
    with zipfile.ZipFile(path) as archive:
        (tmp_path / "net.weights.h5").write_bytes(archive.read("model.weights.h5"))
    return tmp_path / "net.weights.h5"


@pytest.mark.parametrize("version", WITHOUT_NAMES)
def test_without_names_a_layer_has_its_path_in_the_file(version, tmp_path):
    found = transfer.from_keras(weights_of(VERSIONS / f"nested_{version}.keras", tmp_path))
    assert list(found) == ["layers"]
    inner = found["layers"]["functional"]["layers"]["dense_1"]["kernel"]
    np.testing.assert_array_equal(inner, numbers("inner/shared/kernel", (3, 3)))
    params = {"dense": {"kernel": np.zeros((3, 3), "float32")}}
    with pytest.raises(ValueError, match=r"(?s)nothing was restored.*layers/dense/kernel"):
        transfer.restore(params, tmp_path / "net.weights.h5")


def test_names_beside_the_weights_need_no_configuration(tmp_path):
    found = transfer.from_keras(weights_of(VERSIONS / "nested_3.15.1.keras", tmp_path), epsilon=0.5)
    assert sorted(found) == ["auto", "deep", "each", "inner", "one", "zero"]
    kernel = found["deep"]["mid"]["core"]["kernel"]
    np.testing.assert_array_equal(kernel, numbers("deep/mid/core/kernel", (3, 3)))


@pytest.mark.parametrize("version", [*WITHOUT_NAMES, "3.15.1"])
def test_a_model_that_does_not_list_its_layers(version):
    """The attributes are in the file; of what comes after `layers` only the class is."""
    found = flatten_dict(transfer.from_keras(VERSIONS / f"net_{version}.keras"), sep="/")
    expected = {
        "2.15.0": ["layers/dense", "norm", "zz"],
        "3.15.1": ["hidden", "second", "third"],
    }.get(version, ["hidden", "layers/batch_normalization", "layers/dense_1"])
    assert sorted({path.rpartition("/")[0] for path in found}) == expected


def archive_of(path, config, groups, version="3.3.3"):
    """A `.keras` file with these layers in its configuration, and these groups of one kernel."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for number, group in enumerate(groups):
            file[f"layers/{group}/vars/0"] = np.full((2, 2), float(number))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", config if isinstance(config, str) else json.dumps(config))
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("model.weights.h5", stream.getvalue())
    return path


def listed(*layers):
    """The configuration of a model of these classes and names."""
    entries = [
        {"class_name": kind, "module": module, "config": {"name": name}}
        for kind, name, module in layers
    ]
    return {"class_name": "Functional", "config": {"name": "net", "layers": entries}}


def test_layers_are_counted_as_keras_counts_them(tmp_path):
    config = listed(
        ("Dense", "last", "keras.layers"),
        ("Conv2DTranspose", "up", "keras.layers"),
        ("Dense", "unused", "keras.layers"),
        ("Add", "add_function", "keras.src.ops.numpy"),
        ("Custom>MyLSTMBlock", "mine", "custom"),
        ("Dense", "first", "keras.layers"),
    )
    groups = ["dense", "dense_2", "conv2d_transpose", "my_lstm_block"]
    found = transfer.from_keras(archive_of(tmp_path / "net.keras", config, groups))
    order = {name: int(layer["kernel"][0, 0]) for name, layer in found.items()}
    assert order == {"last": 0, "first": 1, "up": 2, "mine": 3}


def test_a_configuration_of_other_layers_names_none(tmp_path):
    config = listed(("Dense", "hidden", "keras.layers"), ("Dense", "top", "keras.layers"))
    path = archive_of(tmp_path / "net.keras", config, ["dense", "dense_1", "dense_2"])
    assert sorted(transfer.from_keras(path)["layers"]) == ["dense", "dense_1", "dense_2"]


def deep(levels, name="net"):
    config = {"class_name": "Functional", "config": {"name": name, "layers": []}}
    for _ in range(levels):
        config = {"class_name": "Functional", "config": {"name": name, "layers": [config]}}
    return config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[" * 10**5, "is damaged: its JSON is nested too deeply"),
        ("{", "is damaged: its JSON cannot be read"),
        ("[]", "is damaged: its JSON is not an object"),
        ('{"a": "' + "a" * 2**23 + '"}', r"has a configuration of \d+ bytes"),
        ('{"a": [' + "[]," * 2**19 + "[]]}", "has JSON of more than 1048576 values"),
        ('{"a": 1, "a": 2}', "has a name twice in its JSON"),
        (deep(65), "has a configuration of more than 16384 layers, or deeper than 64"),
        (listed(*[("D", "a", "")] * 17000), "has a configuration of more than 16384 layers"),
        (listed(("Dense", 3, "")), "has a layer in its configuration whose name or class is no"),
        (listed(("Dense", "a" * 2**22, "")), "has names of more than 4194304 letters"),
        ({"class_name": "Model", "config": 3}, "is damaged"),
    ],
)
def test_configurations_that_keras_would_not_write(tmp_path, config, message):
    """Above all those that a few bytes make large."""
    path = archive_of(tmp_path / "net.keras", config, ["dense"])
    with h5py.File(stream := io.BytesIO(), "w") as file:
        for index in range(3):
            file[f"layers/dense/cell{index}/vars/0"] = np.ones((2, 2))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["model.weights.h5"] = stream.getvalue()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=rf"from_keras: .*net\.keras {message}"):
        transfer.from_keras(path)


def legacy_file(path, layers, config=None):
    """A legacy `.h5` as Keras 2 writes it: layers by name, their arrays by TensorFlow's names."""
    with h5py.File(path, "w") as file:
        root = file.create_group("model_weights") if config else file
        root.attrs["layer_names"] = [name.encode() for name in layers]
        if config:
            file.attrs["model_config"] = json.dumps(config)
        for layer, arrays in layers.items():
            group = root.require_group(layer)
            group.attrs["weight_names"] = [f"{name}:0".encode() for name in arrays]
            for name, number in arrays.items():
                group[f"{name}:0"] = np.full(2, number, "float32")
    return path


def norms(*names):
    """The configuration of batch normalisations, with the epsilons 0.1, 0.2, …"""
    return [
        {"class_name": "BatchNormalization", "config": {"name": name, "epsilon": number / 10}}
        for number, name in enumerate(names, start=1)
    ]


def sequential(layers, name="net"):
    return {"class_name": "Sequential", "config": {"name": name, "layers": layers}}


DOUBLED = {
    "once": ("bn_1", {"bn_1/bn_1_1/gamma": 1.0, "bn_1/bn_1_1/moving_variance": 2.0}),
    "numbered twice": ("bn_1", {"bn_1_1_2/gamma": 1.0, "bn_1_1_2/moving_variance": 2.0}),
    "in part": ("bn_1", {"bn_1/gamma": 1.0, "bn_1/bn_1_1/moving_variance": 2.0}),
    "in the model": ("bn_1", {"net/bn_1/gamma": 1.0, "net_1/bn_1_1/moving_variance": 2.0}),
    "twice": ("bn_1", {"bn_1/bn_1_1/bn_1_1/gamma": 1.0, "bn_1/bn_1/moving_variance": 2.0}),
    "not": ("bn_1", {"gamma": 1.0, "moving_variance": 2.0}),
    "slashes": ("a/bn", {"a/bn/gamma": 1.0, "a/bn_1/moving_variance": 2.0}),
    "slashes in the model": ("a/bn", {"net/a/bn/gamma": 1.0, "net/a/bn_1/moving_variance": 2.0}),
}


@pytest.mark.parametrize("case", DOUBLED)
@pytest.mark.parametrize("with_config", [True, False])
def test_scopes_of_tensorflow_are_no_part_of_a_path(tmp_path, case, with_config):
    name, arrays = DOUBLED[case]
    config = sequential(norms("bn", name)) if with_config else None
    found = transfer.from_keras(legacy_file(tmp_path / "net.h5", {name: arrays}, config))
    flat = flatten_dict(found, sep="/")
    var = 2 + 0.2 - 1e-5 if with_config else 2.0
    assert flat.keys() == {f"{name}/scale", f"{name}/var"}
    np.testing.assert_allclose(flat[f"{name}/scale"], 1.0)
    np.testing.assert_allclose(flat[f"{name}/var"], var, rtol=1e-6)


def test_numbered_layers_in_a_model_are_layers_and_no_scopes(tmp_path):
    arrays = {"bn_1/moving_variance": 1.0, "bn_2/moving_variance": 2.0, "bn_1_1/beta": 3.0}
    config = sequential([sequential(norms("bn_1", "bn_2"), "bn")])
    found = transfer.from_keras(legacy_file(tmp_path / "net.h5", {"bn": arrays}, config))["bn"]
    np.testing.assert_allclose(found["bn_1"]["var"], 1.1 - 1e-5, rtol=1e-6)
    np.testing.assert_allclose(found["bn_2"]["var"], 2.2 - 1e-5, rtol=1e-6)
    np.testing.assert_allclose(found["bn_1"]["bias"], 3.0)
    arrays.popitem()  # without a configuration, both would be the variance of `bn`
    found = transfer.from_keras(legacy_file(tmp_path / "net.h5", {"bn": arrays}))["bn"]
    assert {name: layer["var"][0] for name, layer in found.items()} == {"bn_1": 1, "bn_2": 2}


def test_a_layer_whose_name_begins_with_that_of_another(tmp_path):
    layers = {"a": {"a/gamma": 1.0}, "a/b": {"a/b/gamma": 2.0}}
    config = sequential(norms("a", "a/b"))
    found = transfer.from_keras(legacy_file(tmp_path / "net.h5", layers, config))["a"]
    assert (found["scale"][0], found["b"]["scale"][0]) == (1, 2)


def test_two_arrays_of_one_path_are_refused(tmp_path):
    arrays = {"bn/gamma": 1.0, "bn_1/gamma": 2.0}
    path = legacy_file(tmp_path / "net.h5", {"bn": arrays}, sequential(norms("bn")))
    with pytest.raises(ValueError, match=r"from_keras: .*net\.h5 has 'bn/scale' twice"):
        transfer.from_keras(path)
