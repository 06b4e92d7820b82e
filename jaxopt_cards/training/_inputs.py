"""Checks of what users give to training, before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

default_loss = optax.softmax_cross_entropy_with_integer_labels


def check_model(function: str, model: Any) -> None:
    """Raises unless the model is an NNX module."""
    if not isinstance(model, nnx.Module):
        got = model.__name__ if isinstance(model, type) else type(model).__name__
        raise ValueError(f"{function}: model must be an nnx.Module, an instance, got {got}")


def check_tx(function: str, tx: Any) -> None:
    """Raises unless `tx` has the two functions of a gradient transformation."""
    if not (callable(getattr(tx, "init", None)) and callable(getattr(tx, "update", None))):
        raise ValueError(
            f"{function}: tx must be a gradient transformation, such as adam(1e-3), got {tx!r}"
        )


def on_device(function: str, what: str, examples: Any) -> tuple[jax.Array, jax.Array]:
    """Inputs and labels as arrays on the device, if they are complete, finite and of one length."""
    try:
        x, y = examples
        x, y = jnp.asarray(x), jnp.asarray(y)
    except (TypeError, ValueError):
        raise ValueError(
            f"{function}: {what} must be a pair (x, y) of arrays of numbers, got {type(examples)}"
        ) from None
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(
            f"{function}: {what} must have as many inputs as labels, got the shapes {x.shape} and "
            f"{y.shape}"
        )
    if len(x) == 0:
        raise ValueError(f"{function}: {what} is empty: its inputs have the shape {x.shape}")
    for name, array in (("inputs", x), ("labels", y)):
        finite = jnp.isfinite(array)
        if not finite.all():
            first = np.argwhere(~np.asarray(finite))[0].tolist()
            raise ValueError(
                f"{function}: the {name} of {what} must be finite, got {array[tuple(first)]} at "
                f"{first}"
            )
    return x, y


def check_model_fits(function: str, what: str, model: nnx.Module, loss: Any, examples: Any) -> None:
    """Raises unless the model takes such inputs and the loss such labels."""
    x, y = examples
    try:
        outputs = nnx.eval_shape(lambda model, x: model(x), model, x[:1])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{function}: the model does not take inputs of the shape {x.shape[1:]} of {what}: "
            f"{error}"
        ) from error
    if loss is default_loss:
        if not isinstance(outputs, jax.ShapeDtypeStruct):
            raise ValueError(
                f"{function}: the default loss takes a model whose output is one array, got "
                f"{type(outputs).__name__}: give a loss of your own"
            )
        _check_labels(function, what, y, outputs.shape)
    if not callable(loss):
        raise ValueError(f"{function}: loss must be a function of outputs and labels, got {loss!r}")
    losses = jax.eval_shape(loss, outputs, y[:1])
    if losses.shape != (1,):
        raise ValueError(
            f"{function}: loss must give one number an example, got the shape {losses.shape[1:]} "
            "for each"
        )


def _check_labels(function: str, what: str, y: jax.Array, outputs: tuple[int, ...]) -> None:
    if not jnp.issubdtype(y.dtype, jnp.integer) or y.ndim != 1 or len(outputs) != 2:
        raise ValueError(
            f"{function}: the default loss takes integer labels of shape (n,) and outputs of shape "
            f"(n, classes), got for {what} {y.dtype}{list(y.shape)} and (n, *{outputs[1:]})"
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= outputs[1]:
        raise ValueError(
            f"{function}: the labels of {what} must lie in [0, {outputs[1] - 1}], one for each "
            f"output of the model, got values from {low} to {high}"
        )
