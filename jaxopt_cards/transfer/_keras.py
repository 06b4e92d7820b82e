"""Weights saved by Keras."""

import io
import json
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from jaxopt_cards.transfer._foreign import (
    UnfitError,
    check_size,
    kind_of,
    nested,
    opened,
    zip_entries,
)
from jaxopt_cards.transfer._hdf5 import check_links, check_texts, checked, members, numbers_of

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


def from_keras(path: str | os.PathLike, *, max_bytes: int = 2**33) -> dict[str, Any]:
    r"""Reads the weights of a Keras model: `.keras`, `.weights.h5`, or a legacy `.h5`.

    Layers have the names that they have in Keras; those of a model inside a model are under its
    name. What has no name in NNX (recurrent kernels, random seeds) keeps Keras's own, which may be
    just its number. Optimizers are left out. Needs the library h5py, and not Keras.

    Equation:
        .. math:: (\gamma, \beta, \mu, \sigma^2)_{\mathrm{Keras}} =
            (\mathrm{scale}, \mathrm{bias}, \mathrm{mean}, \mathrm{var})_{\mathrm{NNX}}

    Args:
        path: the file.
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
    Avoid when: the file comes from a stranger; a damaged HDF5 file can crash the HDF5 library.

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
    try:
        import h5py
    except ImportError as error:
        raise ImportError("from_keras: needs h5py: pip install h5py") from error

    with opened("from_keras", path, max_bytes) as file:
        weights, settings = _unpacked(file, max_bytes)
        check_texts(weights)
        with h5py.File(weights, "r") as root:
            check_links(root)
            is_legacy = "model_weights" in root or "layer_names" in root.attrs
            if not is_legacy and not {"layers", "vars", "_layer_checkpoint_dependencies"} & {*root}:
                raise UnfitError("is an HDF5 file without weights of Keras")
            named = _legacy(root) if is_legacy else _numbered(root, settings)
            datasets = [(name, checked(name, dataset)) for name, dataset in named]
            check_size(sum(dataset.nbytes for _, dataset in datasets), max_bytes)
            return nested((name, numbers_of(dataset)) for name, dataset in datasets)


def _unpacked(file: BinaryIO, max_bytes: int) -> tuple[BinaryIO, dict[str, Any]]:
    """The HDF5 file, and the layers' settings by path, which only `.keras` has."""
    if (kind := kind_of(file)) == "an HDF5 file":
        return file, {}
    if kind != "a zip archive":
        raise UnfitError(f"is no file of Keras, but {kind}")
    archive, entries = zip_entries(file, max_bytes)
    if not {"config.json", "model.weights.h5"} <= entries.keys():
        raise UnfitError("is a zip archive that Keras did not write")
    settings = dict(_settings(json.loads(archive.read("config.json")), ""))
    return io.BytesIO(archive.read("model.weights.h5")), settings


def _settings(model: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The settings of all layers, by path."""
    for layer in model["config"].get("layers", []):
        path = f"{prefix}{layer['config']['name']}"
        yield path, layer
        yield from _settings(layer, f"{path}/")


def _numbered(root: Any, settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The arrays of `.weights.h5`, which have numbers for names."""
    for path, kinds, arrays in _layers(root, "", ""):
        names = _array_names(path, kinds, arrays, settings.get(path))
        yield from ((f"{path}/{name}", array) for name, array in zip(names, arrays, strict=True))


def _layers(group: Any, path: str, kind: str) -> Iterator[tuple[str, Any, list[Any]]]:
    """Path, possible kinds and arrays of each layer: `layers/dense_1/vars/0` of name `hidden2`."""
    children = members(group)
    if "vars" in children:
        variables = members(children.pop("vars"))
        arrays = [variables[str(index)] for index in range(len(variables))]
        if arrays:
            yield path or "model", {_kind(kind), _kind(path.rpartition("/")[2])}, arrays
    if not path:
        children.pop("optimizer", None)
    inner = [(name, name, child) for name, child in children.items() if name != "layers"]
    if "layers" in children:
        listed = members(children["layers"])
        inner += [(_layer_name(name, child), name, child) for name, child in listed.items()]
    for name, kind, child in inner:
        yield from _layers(child, f"{path}/{name}".removeprefix("/"), kind)


def _layer_name(name: str, group: Any) -> str:
    """The user's name of a layer, which stands with its variables."""
    variables = members(group).get("vars")
    given = name if variables is None else variables.attrs.get("name", name)
    if not isinstance(given, str) or "/" in given:
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


def _legacy(root: Any) -> Iterator[tuple[str, Any]]:
    """The arrays of a legacy `.h5`: `model_weights/hidden1/sequential/hidden1/kernel:0`."""
    groups = members(root)
    groups = members(groups["model_weights"]) if "model_weights" in groups else groups
    groups.pop("optimizer_weights", None)
    for layer, group in groups.items():
        for path, array in _walked(group, layer):
            parts = path.removesuffix(":0").split("/")
            # The layer's name comes again, after that of the model if it has one.
            again = parts.index(layer, 1) if layer in parts[1:] else 0
            *parts, name = parts[again:]
            yield "/".join([*parts, _NAMES.get(name, name)]), array


def _walked(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All arrays under a group, by path."""
    if hasattr(group, "shape"):
        yield path, group
        return
    for name, child in members(group).items():
        yield from _walked(child, f"{path}/{name}")
