"""The layers of a Keras model, from its configuration."""

import dataclasses
import functools
import itertools
import re
from collections.abc import Iterator
from typing import Any

from jaxopt_cards.transfer.files.foreign import DEPTH, UnfitError, json_object

MOST_JSON = 2**23  # bytes; a thousand layers are two million
MOST_LAYERS = 2**14


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer, or a nested model.

    Attributes:
        name: the name from the user or from Keras.
        kind: its class, in the form of `kind_of_class`.
        settings: its configuration.
        layers: the layers of a model, in order.
        wrapped: the layers in its attributes, such as `layer` of a `TimeDistributed`.
    """

    name: str
    kind: str
    settings: dict[str, Any]
    layers: tuple["Layer", ...] = ()
    wrapped: dict[str, "Layer"] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def children(self) -> dict[str, "Layer"]:
        """The layers of this model, by name."""
        return {layer.name: layer for layer in self.layers}

    @functools.cached_property
    def descendants(self) -> dict[str, list[tuple[tuple[str, ...], "Layer"]]]:
        """All nested layers by name, with the names of the path to them."""
        found: dict[str, list[Any]] = {}
        for names, layer in self.below():
            found.setdefault(layer.name, []).append((names, layer))
        return found

    @functools.cached_property
    def identities(self) -> frozenset[tuple[str, str]]:
        """Class and name of all nested layers."""
        own = {(layer.kind, layer.name) for layer in self.layers}
        return frozenset(own).union(*(layer.identities for layer in self.layers))

    def below(self) -> Iterator[tuple[tuple[str, ...], "Layer"]]:
        """All nested layers, with the names of the path to them."""
        waiting: list[tuple[tuple[str, ...], Layer]]
        waiting = [((layer.name,), layer) for layer in self.layers]
        while waiting:
            names, layer = waiting.pop()
            yield names, layer
            waiting += [((*names, inner.name), inner) for inner in layer.layers]

    def epsilon(self) -> Any:
        """The epsilon of a normalisation, or of one in a wrapper; `None` if unknown."""
        found = self.settings.get("epsilon")
        if found is None and "layer" in self.wrapped:
            return self.wrapped["layer"].epsilon()
        return found


def check_length(length: int) -> None:
    """Raises before reading if a JSON text would take too much memory."""
    if length > MOST_JSON:
        raise UnfitError(f"has a configuration of {length} bytes, more than {MOST_JSON}")


def parsed(text: str | bytearray, memory: int) -> dict[str, Any]:
    """A JSON text as a dictionary, in at most `memory` bytes; empty for an empty text."""
    if not text:
        return {}
    raw = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    check_length(len(raw))
    return json_object(raw, memory)


def model_of(config: dict[str, Any]) -> Layer | None:
    """The model of a configuration; `None` if it has no layers."""
    model = _layer(config, 0, itertools.count()) if config else None
    return model if model is not None and model.layers else None


def kind_of_class(name: str) -> str:
    """The name of a class in Keras's files: `BatchNormalization` is `batch_normalization`."""
    name = re.sub(r"\W+", "", name.rpartition(">")[2])
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _layer(entry: Any, depth: int, count: Iterator[int]) -> Layer:
    """A layer with its nested layers."""
    if depth > DEPTH or next(count) > MOST_LAYERS:
        raise UnfitError(
            f"has a configuration of more than {MOST_LAYERS} layers, or deeper than {DEPTH}"
        )
    settings = entry.get("config") or {}
    # Before Keras 2.2.3, the configuration of a Sequential was the list of its layers.
    settings = {"layers": settings} if isinstance(settings, list) else settings
    name, kind = settings.get("name", entry.get("name")), entry.get("class_name")
    if not isinstance(name, str | None) or not isinstance(kind, str):
        raise UnfitError("has a layer in its configuration whose name or class is not text")
    listed = [found for found in settings.get("layers") or () if _is_layer(found)]
    wrapped = {key: found for key, found in settings.items() if _is_layer(found)}
    return Layer(
        name or "",
        kind_of_class(kind),
        settings,
        tuple(_layer(found, depth + 1, count) for found in listed),
        {key: _layer(found, depth + 1, count) for key, found in wrapped.items()},
    )


def _is_layer(entry: Any) -> bool:
    """Whether it describes a layer; a `keras.ops` function has no variables and no number."""
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("class_name"), str)
        and isinstance(entry.get("config"), dict | list)
        and not re.match(r"keras\.(src\.)?ops\b", str(entry.get("module")))
    )
