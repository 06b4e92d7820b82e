"""Greedy layer-wise pretraining: the loop over layers, its checks, and its result."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.layers import MLP, ResidualMLP
from jaxopt_cards.training.inputs import on_device
from jaxopt_cards.transfer.features import cache_features
from jaxopt_cards.transfer.mlp_parts import check_mlp, check_upto

_Model = TypeVar("_Model", bound=MLP)


class Pretrained(NamedTuple):
    """The result of layer-wise pretraining."""

    model: Any  # a copy of the model with pretrained hidden layers
    losses: tuple[np.ndarray, ...]  # for each layer, its loss after each epoch, float64


def greedily(
    model: _Model,
    x: jax.Array,
    upto: int,
    train_layer: Callable[[_Model, int, jax.Array], tuple[nnx.Module, np.ndarray]],
    copy_layer: Callable[[nnx.Module, _Model, int], None],
) -> Pretrained:
    """Trains the layers one by one, each on the outputs of the layer below, computed once."""
    model, losses = nnx.clone(model), []
    for index in range(1, upto + 1):
        trained, of_layer = train_layer(model, index, x)
        copy_layer(trained, model, index)
        losses.append(of_layer)
        if index < upto:
            outputs = cache_features(trained, 1, (x, np.zeros(len(x), np.int32))).x
            x = jnp.asarray(outputs)
    return Pretrained(model, tuple(losses))


def checked_depth(model: Any, upto: int | None) -> int:
    """The number of layers to pretrain; raises if the model does not have them."""
    check_mlp(model)
    if isinstance(model, ResidualMLP):
        # Each layer is pretrained alone, as if nothing went around it.
        raise HyperparameterError("model", "have no skip connections", type(model).__name__)
    if model.depth == 0:
        raise HyperparameterError("model", "have hidden layers", model)
    upto = model.depth if upto is None else upto
    check_upto("upto", upto, model, least=1)
    return upto


def checked_inputs(model: MLP, x: Any) -> jax.Array:
    """The inputs on the device; raises if the model does not accept them."""
    x = on_device("x", (x, np.zeros(np.shape(x)[:1], np.int32))).x
    width = hidden(model, 1).in_features
    if x.ndim != 2 or x.shape[1] != width or not jnp.issubdtype(x.dtype, jnp.floating):
        got = f"{x.dtype}{list(x.shape)}"
        raise HyperparameterError("x", f"be floating-point, of shape (n, {width})", got)
    return x


def hidden(model: MLP, index: int) -> Any:
    """The dense layer with this number, from 1."""
    return getattr(model, f"hidden{index}")
