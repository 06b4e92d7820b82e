"""Weights saved by Keras."""

import importlib.util
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from jaxopt_cards._checks import check_number
from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.transfer._foreign import UnfitError, kind_of, nested, opened, zip_entries
from jaxopt_cards.transfer._hdf5 import Contents, Group, checked, contents, members

_EPSILON = 1e-5  # of nnx.BatchNorm and layers.MLP

_NAMES = {
    "gamma": "scale",
    "beta": "bias",
    "moving_mean": "mean",
    "moving_variance": "var",
    "embeddings": "embedding",
}
# What layers have, in the order in which Keras numbers it.
_KERNEL = ("kernel", "bias")
_ARRAYS = {
    "dense": _KERNEL,
    "conv1d": _KERNEL,
    "conv2d": _KERNEL,
    "conv3d": _KERNEL,
    "embedding": ("embedding",),
    "layer_normalization": ("scale", "bias"),
    "batch_normalization": ("scale", "bias", "mean", "var"),
}


@named_in_errors
def from_keras(
    path: str | os.PathLike, *, epsilon: float = _EPSILON, max_bytes: int = 2**33
) -> dict[str, Any]:
    r"""Reads the weights of a Keras model: `.keras`, `.weights.h5`, or a legacy `.h5`.

    Layers have the names that they have in Keras; those of a model inside a model are under its
    name. What has no name in NNX (recurrent kernels, random seeds) keeps Keras's own, which may be
    just its number. Optimizers are left out. Needs the library h5py, and not Keras.

    Batch normalisations add :math:`\epsilon` to the variance: 0.001 in Keras, 0.00001 in NNX,
    where it is no array and cannot be restored. The difference is put into the variance, so that
    the outputs are the same. A `.keras` file, or a legacy `.h5` of a whole model, says what
    :math:`\epsilon` was; `.weights.h5` does not. Layer normalisations keep no variance: give
    `nnx.LayerNorm` the `epsilon` of Keras.

    The file is read by another process, so it can neither crash this one nor hang it for longer
    than a minute (and a second for each 16 MiB); on Linux with at most `2 * max_bytes` and 1 GiB of
    memory beside the file's.

    Equation:
        .. math:: (\gamma, \beta, \mu, \sigma^2 + \epsilon - 10^{-5})_{\mathrm{Keras}} =
            (\mathrm{scale}, \mathrm{bias}, \mathrm{mean}, \mathrm{var})_{\mathrm{NNX}}

    Args:
        path: the file.
        epsilon: float in [0, inf); that of batch normalisations in Keras where the file does not
            say: 0.001 unless it was set, as in `restore(model, from_keras(path, epsilon=0.001))`.
            Default: NNX's, which leaves variances as they are.
        max_bytes: whole number > 0; files that declare more are not read.

    Returns:
        A nested dictionary of NumPy arrays, for `restore`; bfloat16 as it is.

    State:
        None.

    Raises:
        ValueError: the file is damaged, of another format, too large, or leads to other files; a
            `.weights.h5`, where arrays have numbers for names, has a normalisation without scale
            or without bias: a `.keras` file says which.
        OSError: there is no such file, or it may not be read.
        ImportError: h5py is not installed.

    References:
        François Chollet et al. (2015), Keras. Chapter 11, "Reusing Models from Other Frameworks".

    Use when: a network was trained with Keras, on any of its backends.
    Avoid when: a stranger's file comes as `.safetensors` too; HDF5 is a far larger library.

    Example:
        >>> import tempfile
        >>> import h5py, numpy as np
        >>> from jaxopt_cards import transfer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with h5py.File(f"{folder}/net.weights.h5", "w") as file:
        ...         file["layers/dense/vars/0"] = np.ones((3, 2))
        ...         file["layers/dense/vars"].attrs["name"] = "hidden1"
        ...     transfer.from_keras(f"{folder}/net.weights.h5")["hidden1"]["kernel"].shape
        (3, 2)
    """
    check_number("from_keras", "epsilon", epsilon, "[0, inf)")
    if importlib.util.find_spec("h5py") is None:
        raise ImportError("from_keras: needs h5py: pip install h5py")
    with opened("from_keras", path, max_bytes) as file, _unpacked(file, max_bytes) as unpacked:
        weights, config = unpacked
        found = contents(weights, max_bytes)
        settings = dict(_settings(config or found.config, ""))
        return nested(_with_nnx_epsilon(_named(found, settings), settings, float(epsilon)))


@contextmanager
def _unpacked(file: BinaryIO, max_bytes: int) -> Iterator[tuple[BinaryIO, dict[str, Any]]]:
    """The HDF5 file, and the model's configuration, which `.keras` has beside it."""
    if (kind := kind_of(file)) == "an HDF5 file":
        yield file, {}
        return
    if kind != "a zip archive":
        raise UnfitError(f"is no file of Keras, but {kind}")
    archive, entries = zip_entries(file, max_bytes)
    if not {"config.json", "model.weights.h5"} <= entries.keys():
        raise UnfitError("is a zip archive that Keras did not write")
    with tempfile.TemporaryFile() as weights:
        with archive.open("model.weights.h5") as packed:
            shutil.copyfileobj(packed, weights)
        weights.flush()
        yield weights, json.loads(archive.read("config.json"))


def _settings(model: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The settings of all layers, by path."""
    config = model.get("config", {})
    # Before Keras 2.2.3 it was the list itself.
    for layer in config if isinstance(config, list) else config.get("layers", []):
        path = f"{prefix}{layer['config'].get('name')}"
        yield path, layer
        yield from _settings(layer, f"{path}/")


def _named(found: Contents, settings: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays by path, with NNX's names."""
    if found.is_legacy:
        return _legacy(found.root)
    if not {"layers", "vars", "_layer_checkpoint_dependencies"} & {*found.root}:
        raise UnfitError("is an HDF5 file without weights of Keras")
    return _numbered(found.root, settings)


def _with_nnx_epsilon(
    named: Iterator[tuple[str, np.ndarray]], settings: dict[str, Any], epsilon: float
) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays, with variances that give Keras's outputs once NNX adds an epsilon of its own."""
    for path, array in named:
        layer, _, name = path.rpartition("/")
        if name == "var":
            config = settings.get(layer, {}).get("config", {})
            check_number(
                f"{layer!r}", "epsilon", given := config.get("epsilon", epsilon), "[0, inf)"
            )
            array = (array + (given - _EPSILON)).astype(array.dtype)
        yield path, array


def _numbered(root: Group, settings: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of `.weights.h5`, which have numbers for names."""
    for path, kinds, arrays in _layers(root, "", ""):
        names = _array_names(path, kinds, arrays, settings.get(path))
        yield from ((f"{path}/{name}", array) for name, array in zip(names, arrays, strict=True))


def _layers(group: Any, path: str, kind: str) -> Iterator[tuple[str, Any, list[Any]]]:
    """Path, possible kinds and arrays of each layer: `layers/dense_1/vars/0` of name `hidden2`."""
    children = members(group, path)
    if "vars" in children:
        variables = members(children.pop("vars"), f"{path}/vars")
        arrays = [checked(path, variables[str(index)]) for index in range(len(variables))]
        if arrays:
            yield path or "model", {_kind(kind), _kind(path.rpartition("/")[2])}, arrays
    if not path:
        children.pop("optimizer", None)
    inner = [(name, name, child) for name, child in children.items() if name != "layers"]
    if "layers" in children:
        listed = members(children["layers"], f"{path}/layers")
        inner += [(_layer_name(name, child), name, child) for name, child in listed.items()]
    for name, kind, child in inner:
        yield from _layers(child, f"{path}/{name}".removeprefix("/"), kind)


def _layer_name(name: str, group: Any) -> str:
    """The user's name of a layer, which stands with its variables."""
    variables = members(group, name).get("vars")
    given = (isinstance(variables, Group) and variables.given) or name
    if "/" in given:
        raise UnfitError(f"has a layer of the name {given!r}")
    return given


def _kind(name: str) -> str:
    """`BatchNormalization` or `batch_normalization_1` as in `_ARRAYS`."""
    return re.sub(r"_\d+$", "", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)).lower()


def _array_names(path: str, kinds: set[str], arrays: list[Any], settings: Any) -> list[str]:
    """The names of a layer's arrays, of which only the order is known."""
    kinds = {_kind(settings["class_name"])} if settings else kinds
    known = next((_ARRAYS[kind] for kind in sorted(kinds) if kind in _ARRAYS), None)
    dimensions = [len(array.shape) for array in arrays]
    if known is None and dimensions[0] >= 2 and dimensions[1:] in ([], [1]):
        known = _KERNEL
    if known is None and dimensions == [1, 1, 1, 1]:
        known = _ARRAYS["batch_normalization"]
    if known is None:
        return [str(index) for index in range(len(arrays))]
    if known[0] == "scale" and settings:
        left_out = {"scale": "scale", "bias": "center"}
        config = settings["config"]
        known = tuple(n for n in known if n not in left_out or config[left_out[n]])
    if len(arrays) != len(known) and not (known == _KERNEL and len(arrays) == 1):
        raise UnfitError(
            f"has {len(arrays)} arrays in {path!r}, which could be any of {', '.join(known)}: a "
            ".keras file, of model.save, says which"
        )
    return list(known[: len(arrays)])


def _legacy(root: Group) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of a legacy `.h5`: `model_weights/hidden1/sequential/hidden1/kernel:0`."""
    groups = members(root.get("model_weights", root), "model_weights")
    groups.pop("optimizer_weights", None)
    for layer, group in groups.items():
        for path, array in _walked(group, layer):
            parts = path.removesuffix(":0").split("/")
            # The layer's name comes again, after that of the model if it has one.
            again = parts.index(layer, 1) if layer in parts[1:] else 0
            *parts, name = parts[again:]
            yield "/".join([*parts, _NAMES.get(name, name)]), array


def _walked(group: Any, path: str) -> Iterator[tuple[str, np.ndarray]]:
    """All arrays under a group, by path."""
    if not isinstance(group, Group):
        yield path, group
        return
    for name, child in group.items():
        yield from _walked(child, f"{path}/{name}")
