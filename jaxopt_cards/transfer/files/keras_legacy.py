"""The arrays of a legacy `.h5` file, whose paths are TensorFlow's scopes."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jaxopt_cards.transfer.files.foreign import Names
from jaxopt_cards.transfer.files.hdf5 import Group, members
from jaxopt_cards.transfer.files.keras_config import Layer

_NAMES = {
    "gamma": "scale",
    "beta": "bias",
    "moving_mean": "mean",
    "moving_variance": "var",
    "embeddings": "embedding",
}

Named = Iterator[tuple[str, np.ndarray, Layer | None]]


def legacy(root: Group, model: Layer | None, version: str) -> Named:
    """Path, array and layer of `model_weights/hidden1/sequential/hidden1/kernel:0`.

    The group of a layer has its name. In it, the name of an array follows scopes: that of the
    model, that of the layer, and those of nested layers. TensorFlow adds numbers to repeated
    scopes, such as `bn_1_1` for `bn_1`; Keras 3 does not. Without a configuration, other scopes are
    kept.
    """
    numbers = "" if version.startswith("3.") else r"(_\d+)*"
    groups = members(root.get("model_weights", root), "model_weights")
    groups.pop("optimizer_weights", None)
    names = Names()
    # Names of layers may have several parts in Keras 2: `block1/conv`.
    for name, group in list(_marked(groups, ())) or groups.items():
        layer = model.children.get(name) if model else None
        arrays = list(_walked(group, ()))
        placed = [_placed(name, parts, layer, numbers, names) for parts, _ in arrays]
        if layer is None and len({path for path, _ in placed}) < len(placed):
            # `conv_1` and `conv_2` in `conv` are nested layers, not its own numbered scope.
            placed = [_placed(name, parts, layer, "", names) for parts, _ in arrays]
        for (path, found), (_, array) in zip(placed, arrays, strict=True):
            yield path, array, found


def _marked(groups: dict[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """The groups of layers, which list weights."""
    for name, group in groups.items():
        if isinstance(group, Group):
            if group.is_layer:
                yield "/".join([*above, name]), group
            yield from _marked(group, (*above, name))


def _walked(group: Any, above: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """All arrays of a layer, by the names of the path to them."""
    if not isinstance(group, Group):
        yield above, group
        return
    for name, child in group.items():
        if not (isinstance(child, Group) and child.is_layer):
            yield from _walked(child, (*above, name))


def _placed(
    name: str, parts: tuple[str, ...], layer: Layer | None, numbers: str, names: Names
) -> tuple[str, Layer | None]:
    """Path and layer of an array at this place in the group of a layer."""
    *scopes, last = parts
    path, found = name, layer
    for scope in scopes[_own(name, scopes, layer, numbers) :]:
        inner_names, inner = _inner(found, scope)
        for part in inner_names:
            path = names.joined(path, part)
        found = inner or found
    last = last.removesuffix(":0")
    return names.joined(path, _NAMES.get(last, last)), found


def _own(name: str, scopes: Sequence[str], layer: Layer | None, numbers: str) -> int:
    """The number of scopes that belong to the model and the layer itself."""
    size, place = name.count("/") + 1, 0
    while place < len(scopes):
        if (place or scopes[0] != name) and _inner(layer, scopes[place])[1]:
            break  # `dense_1` in the model `dense` is one of its layers
        ends = range(place + size, len(scopes) + 1)
        candidates = [(end, "/".join(scopes[end - size : end])) for end in ends]
        own = [end for end, scope in candidates if scope == name]
        own += [e for e, scope in candidates if re.fullmatch(re.escape(name) + numbers, scope)]
        if not own:
            break
        place = own[0]
    return place


def _inner(layer: Layer | None, scope: str) -> tuple[list[str], Layer | None]:
    """The nested layer for a scope, and the names of the path to it."""
    while layer:
        found = layer.descendants.get(scope, [])
        nearest = [pair for pair in found if len(pair[0]) == 1] or found
        if len(nearest) == 1:
            return list(nearest[0][0]), nearest[0][1]
        shorter = re.sub(r"_\d+$", "", scope)
        if shorter == scope:
            break
        scope = shorter
    return [scope], None
