"""Models as arrays by path in safetensors, and the settings that rebuild an MLP."""

import dataclasses
import itertools
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, escaped
from jaxopt_cards.core.optional import optional
from jaxopt_cards.core.paths import listed, named, path_name, path_names
from jaxopt_cards.layers import MLP, BatchNorm, Rate
from jaxopt_cards.layers.activations import ACTIVATIONS
from jaxopt_cards.storage.arrays import plain_arrays
from jaxopt_cards.transfer.files.foreign import UnfitError
from jaxopt_cards.transfer.files.safetensors import array_of
from jaxopt_cards.transfer.mlp_parts import dense_layers
from jaxopt_cards.transfer.model_card import DTYPE_NAMES, MAX_CARD_BYTES, ModelCard, is_text
from jaxopt_cards.transfer.restored_array import as_it_is

_RATES = ("dropout", "input_dropout", "drop_connect")


def described(arrays: dict[str, Any]) -> dict[str, str]:
    """Paths, dtypes and shapes of arrays, as on a card."""
    return {path: f"{array.dtype}{list(array.shape)}" for path, array in sorted(arrays.items())}


def to_bytes(arrays: dict[str, Any]) -> bytes:
    """The contents of a safetensors file."""
    safetensors = optional("safetensors.numpy")
    # In C order: the library writes the memory of an array as it is.
    plain = {path: np.asarray(array, order="C") for path, array in arrays.items()}
    for path, array in plain.items():
        if str(array.dtype) not in DTYPE_NAMES:
            expected = f"have a dtype of safetensors, one of {DTYPE_NAMES}"
            raise HyperparameterError(f"the array {path!r}", expected, str(array.dtype))
    return safetensors.save(plain, metadata={"format": "flax"})


def from_bytes(contents: bytes) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file; raises `ValueError` if it is not valid."""
    safetensors = optional("safetensors")
    # For each array, it has what the card has, and an offset.
    if (length := int.from_bytes(contents[:8], "little")) > 2 * MAX_CARD_BYTES:
        raise ValueError(f"its header has {length:,} bytes, more than any card can describe")
    try:
        tensors = safetensors.deserialize(contents)
    except safetensors.SafetensorError as error:
        raise ValueError(f"it is not a whole safetensors file: {escaped(error)}") from None
    for path, _ in tensors:
        if not is_text(path):
            raise ValueError(f"the name of an array must be a path, got {path[:50]!r}")
    try:
        return dict(array_of(*entry) for entry in tensors)
    except UnfitError as error:
        raise ValueError(f"it {error}") from None


def arrays_of(model: Any) -> dict[str, Any]:
    """Parameters, statistics and rates by path, without random streams."""
    return plain_arrays(_parts(model)[2])


def filled(model: nnx.Module, arrays: dict[str, np.ndarray]) -> Any:
    """A copy of the model in eval mode, filled with arrays of the same paths."""
    graph, streams, rest = _parts(model)
    leaves = [as_it_is(arrays[path]) for path in path_names(rest)]
    return nnx.merge(graph, streams, jax.tree.unflatten(jax.tree.structure(rest), leaves))


def settings_of(model: Any) -> dict[str, Any] | None:
    """The arguments that rebuild the same MLP; `None` if there are none."""
    if type(model) is not MLP:
        return None
    activations = [name for name, found in ACTIVATIONS.items() if found is model.activation]
    if not activations:
        return None
    try:
        dense = dense_layers(model)
        norm = model.batch_norm
        settings = {
            "in_features": int(dense[0].in_features),
            "out_features": int(dense[-1].out_features),
            "units": [int(layer.out_features) for layer in dense[:-1]],
            "activation": activations[0],
            "batch_norm": _as_json(norm),
            "batch_norm_momentum": 0.99 if norm is None else norm.momentum,
            **{f"{name}_rate": _rate(getattr(model, name)) for name in _RATES},
        }
    except (AttributeError, TypeError):  # layers were replaced, or models are stacked
        return None
    # Single layers may have been changed: the rebuilt model must have the same graph.
    again, given = (_parts(each) for each in (nnx.eval_shape(lambda: built(settings)), model))
    same = again[0] == given[0] and described(dict(named(again[2]))) == described(
        dict(named(given[2]))
    )
    return settings if same else None


def _as_json(norm: BatchNorm | None) -> bool | dict[str, Any]:
    """Whether it is the usual normalisation, or all options of another one."""
    if norm is None or norm == BatchNorm(norm.momentum):
        return norm is not None
    return dataclasses.asdict(norm)


def built(settings: dict[str, Any]) -> MLP:
    """An MLP with these settings and arbitrary weights."""
    if isinstance(options := settings["batch_norm"], dict):
        settings = settings | {"batch_norm": BatchNorm(**options)}
    rates = {f"{name}_rate": settings[f"{name}_rate"] for name in _RATES}
    # An array keeps the layer even if the rate is 0.
    rates = {name: 0.0 if rate is None else np.array(rate, "f4") for name, rate in rates.items()}
    return MLP(**(settings | rates), rngs=nnx.Rngs(0))


def built_from(card: ModelCard) -> nnx.Module:
    """The MLP that the card describes; first checks that it is not larger than its arrays."""
    settings = card.settings or {}
    widths = [settings["in_features"], *settings["units"], settings["out_features"]]
    for index, shape in enumerate(itertools.pairwise(widths), start=1):
        path = "logits/kernel" if index == len(widths) - 1 else f"hidden{index}/kernel"
        expected = f"float32{list(shape)}"
        if card.arrays.get(path) != expected:
            raise ValueError(f"its settings need {path}: {expected}, got {card.arrays.get(path)}")
    return built(settings)


def check_same(saved: dict[str, str], wanted: dict[str, str], where: str, other: str) -> None:
    """Raises with all differences unless paths, dtypes and shapes are the same."""
    differing = [
        f"{path}: {where} has {saved.get(path)}, {other} {wanted.get(path)}"
        for path in sorted(saved | wanted)
        if saved.get(path) != wanted.get(path)
    ]
    if differing:
        more = "" if len(differing) <= 20 else f"\n  and {len(differing) - 20} more"
        raise ValueError(f"the arrays differ:{listed(differing[:20])}{more}")


def check_ranges(model: nnx.Module, arrays: dict[str, Any]) -> None:
    """Raises unless rates and variances are within their ranges."""
    for path, variable in _variables(model):
        is_rate = isinstance(variable, Rate)
        is_variance = isinstance(variable, nnx.BatchStat) and path.rpartition("/")[2] == "var"
        if is_rate or is_variance:
            values, end = np.asarray(arrays[path], np.float64), 1 if is_rate else np.inf
            is_in = (values >= 0) & (values < end)
            if not is_in.all():
                raise ValueError(f"{path} must lie in [0, {end}), got {values[~is_in][0]}")


def check_rates(model: nnx.Module, arrays: dict[str, Any]) -> None:
    """Raises unless the rates are those of the model that was built from the card."""
    for path, variable in _variables(model):
        if isinstance(variable, Rate) and not np.array_equal(arrays[path], variable[...]):
            raise ValueError(
                f"its settings have {variable[...]} for {path}, which is {arrays[path]}"
            )


def _variables(model: nnx.Module) -> list[tuple[str, Any]]:
    """All variables except random streams, by path."""

    def is_variable(leaf):
        return isinstance(leaf, nnx.Variable)

    found = jax.tree_util.tree_leaves_with_path(_parts(model)[2], is_leaf=is_variable)
    return [(path_name(path), variable) for path, variable in found]


def _parts(model: nnx.Module) -> tuple[Any, Any, Any]:
    """Graph, random streams and all other variables of a copy in eval mode."""
    model = nnx.clone(model)
    model.eval()
    parts: Any = nnx.split(model, nnx.RngState, ...)  # typed for one filter only
    return parts


def _rate(dropout: Any) -> float | None:
    # Through its shortest text, so that the card has 0.2 and not the nearest float32.
    return None if dropout is None else float(str(np.float32(dropout.rate[...])))
