"""The arrays of `.weights.h5` files, with layers numbered by class and arrays by order."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxopt_cards.core.checks import shown
from jaxopt_cards.transfer.files.foreign import Names, UnfitError
from jaxopt_cards.transfer.files.hdf5 import Group, checked, members
from jaxopt_cards.transfer.files.keras_config import Layer, kind_of_class

# The arrays of layers, in Keras's order.
_KERNEL = ("kernel", "bias")
_ARRAYS = {
    "dense": _KERNEL,
    "conv1d": _KERNEL,
    "conv2d": _KERNEL,
    "conv3d": _KERNEL,
    "embedding": ("embedding",),
    "layer_normalization": ("scale", "bias"),
    "group_normalization": ("scale", "bias"),
    "rms_normalization": ("scale",),
    "batch_normalization": ("scale", "bias", "mean", "var"),
}

Named = Iterator[tuple[str, np.ndarray, Layer | None]]


def numbered(root: Group, model: Layer | None, version: str) -> Named:
    """Path, array and layer of each array."""
    if not {"layers", "vars", "_layer_checkpoint_dependencies"} & {*root}:
        raise UnfitError("is an HDF5 file without weights of Keras")
    names = Names()
    for path, kinds, arrays, layer in _layers(root, "", "", model, version.startswith("2."), names):
        given = _array_names(path, kinds, arrays, layer)
        for name, array in zip(given, arrays, strict=True):
            yield names.joined(path, name), array, layer


def _layers(
    group: Any, path: str, kind: str, layer: Layer | None, skips: bool, names: Names
) -> Iterator[tuple[str, set[str], list[Any], Layer | None]]:
    """Path, possible kinds, arrays and configuration of each layer."""
    children = members(group, path)
    if "vars" in children:
        variables = members(children.pop("vars"), f"{path}/vars")
        numbers = [str(index) for index in range(len(variables))]
        if variables.keys() != {*numbers}:
            where = shown(f"{path}/vars")
            raise UnfitError(f"has arrays in {where} whose names are not the numbers from 0")
        arrays = [checked(path, variables[number]) for number in numbers]
        if arrays:
            yield path or "model", {kind, _kind(path.rpartition("/")[2])}, arrays, layer
    if not path:
        children.pop("optimizer", None)
    listed = members(children.pop("layers", Group()), f"{path}/layers")
    inner = [
        (name, name, child, layer.wrapped.get(name) if layer else None)
        for name, child in children.items()
    ]
    inner += _listed(listed, layer, skips)
    for name, group_name, child, found in inner:
        yield from _layers(child, names.joined(path, name), _kind(group_name), found, skips, names)


def _listed(
    groups: dict[str, Any], model: Layer | None, skips: bool
) -> Iterator[tuple[str, str, Any, Layer | None]]:
    """Name, group and configuration of the layers of a model.

    Since Keras 3.6, the name of a layer is an attribute of its variables; before, only the
    configuration has it. Without either, the name is the path in the file, `layers/dense_1`.
    """
    layers = _by_group(model, groups, skips) if model else {}
    for key, group in groups.items():
        if (given := _given(key, group)) is not None:
            yield given, key, group, model.children.get(given) if model else None
        elif key in layers:
            yield layers[key].name, key, group, layers[key]
        else:
            yield f"layers/{key}", key, group, None


def _given(key: str, group: Any) -> str | None:
    """The name of a layer, if it is an attribute of its variables."""
    variables = members(group, key).get("vars")
    given = variables.given if isinstance(variables, Group) else None
    if given and "/" in given:
        raise UnfitError(f"has a layer of the name {given!r}")
    return given or None


def _by_group(model: Layer, groups: Iterable[str], skips: bool) -> dict[str, Layer]:
    """The layers by the names of their groups; empty if the file has a group of another name.

    Layers of each class are counted in the order of the configuration, including those without
    variables. A layer that was already saved in a nested model has no group: Keras 3 counts it,
    Keras 2 (`skips`) does not.
    """
    counts: Counter[str] = Counter()
    found: dict[str, Layer] = {}
    saved: set[tuple[str, str]] = set()  # in earlier nested models
    for layer in model.layers:
        identity = (layer.kind, layer.name)
        if not (skips and identity in saved):
            number = counts[layer.kind]
            found[f"{layer.kind}_{number}" if number else layer.kind] = layer
            counts[layer.kind] += 1
        if skips:
            saved |= layer.identities
    return found if found.keys() >= {*groups} else {}


def _kind(name: str) -> str:
    """The class of the group `batch_normalization_1`, as in `_ARRAYS`."""
    return kind_of_class(re.sub(r"_\d+$", "", name))


def _array_names(path: str, kinds: set[str], arrays: list[Any], layer: Layer | None) -> list[str]:
    """The names of a layer's arrays, from their order."""
    kinds = {layer.kind} if layer else kinds
    known = next((_ARRAYS[kind] for kind in sorted(kinds) if kind in _ARRAYS), None)
    dimensions = [len(array.shape) for array in arrays]
    if known is None and dimensions[0] >= 2 and dimensions[1:] in ([], [1]):
        known = _KERNEL
    if known is None and dimensions == [1, 1, 1, 1]:
        known = _ARRAYS["batch_normalization"]
    if known is None:
        return [str(index) for index in range(len(arrays))]
    if known[0] == "scale" and layer:
        left_out = {"scale": "scale", "bias": "center"}
        settings = layer.settings
        known = tuple(n for n in known if n not in left_out or settings.get(left_out[n], True))
    if len(arrays) != len(known) and not (known == _KERNEL and len(arrays) == 1):
        raise UnfitError(
            f"has {len(arrays)} arrays in {path!r}, which may be any of {', '.join(known)}; use "
            "a .keras file from model.save, which describes them"
        )
    return list(known[: len(arrays)])
