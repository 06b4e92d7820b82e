"""Checks of what users give to training, before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards._named_errors import NamedError
from jaxopt_cards.selection import listed, named
from jaxopt_cards.training._epoch import Data

default_loss = optax.softmax_cross_entropy_with_integer_labels


def check_model(function: str, model: Any) -> None:
    """Raises unless the model is an NNX module."""
    if not isinstance(model, nnx.Module):
        got = model.__name__ if isinstance(model, type) else type(model).__name__
        raise NamedError(function, f"model must be an nnx.Module, an instance, got {got}")


def check_opt_state(function: str, opt_state: Any, wanted: Any) -> None:
    """Raises unless the optimizer's state has the structure, shapes and types that it must have."""
    there, here = ({name: array_kind(leaf) for name, leaf in named(s)} for s in (wanted, opt_state))
    differing = [
        f"{name} is {here.get(name, 'missing')}, expected {there.get(name, 'none')}"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    structure: Any = jax.tree.structure(opt_state)
    if structure != jax.tree.structure(wanted):
        differing = differing or [f"its structure is {structure}"]
    if differing:
        raise NamedError(
            function,
            f"opt_state must be a state of tx for the parameters that are trained; "
            f"transfer.migrate_state makes one of another run's. But{listed(differing)}",
        )


def array_kind(leaf: Any) -> str:
    """Dtype and shape, as `float32[2, 3]`."""
    return f"{jnp.result_type(leaf)}{list(np.shape(leaf))}"


def on_device(function: str, what: str, examples: Any, *, weighted: bool = False) -> Data:
    """Examples as arrays on the device, if they are complete, finite and of one length."""
    kinds = "(x, y) or (x, y, weight)" if weighted else "(x, y)"
    try:
        x, y, *weight = map(jnp.asarray, examples)
        if len(weight) > weighted:
            raise ValueError
    except (TypeError, ValueError):
        raise NamedError(
            function, f"{what} must be {kinds}, arrays of numbers, got {_types(examples)}"
        ) from None
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise NamedError(
            function,
            f"{what} must have as many inputs as labels, got the shapes {x.shape} and {y.shape}",
        )
    if len(x) == 0:
        raise NamedError(function, f"{what} is empty: its inputs have the shape {x.shape}")
    for name, array in zip(("inputs", "labels", "weights"), (x, y, *weight), strict=False):
        _check_finite(f"{function}: the {name} of {what}", array)
    return Data(x, y, *(_checked_weight(function, what, w, len(y)) for w in weight))


def _types(examples: Any) -> str:
    if not isinstance(examples, tuple | list):
        return str(type(examples))
    kinds = (type(part).__name__ + _of(part) for part in examples)
    return f"({', '.join(kinds)})"


def _of(part: Any) -> str:
    return f" of {part.dtype}" if hasattr(part, "dtype") else ""


def _check_finite(what: str, array: jax.Array) -> None:
    finite = jnp.isfinite(array)
    if not finite.all():
        first = np.argwhere(~np.asarray(finite))[0].tolist()
        raise ValueError(f"{what} must be finite, got {array[tuple(first)]} at {first}")


def _checked_weight(function: str, what: str, weight: jax.Array, n: int) -> jax.Array:
    if weight.shape != (n,) or weight.min() < 0 or weight.max() == 0:
        raise NamedError(
            function,
            f"the weights of {what} must be {n} numbers >= 0, not all 0, got the shape "
            f"{weight.shape} with values from {weight.min()} to {weight.max()}",
        )
    return weight.astype(jnp.float32)


def check_model_fits(function: str, what: str, model: nnx.Module, loss: Any, examples: Data) -> Any:
    """Raises unless the model takes such inputs and the loss such labels; the outputs' shape."""
    x, y = examples.x, examples.y
    try:
        outputs = nnx.eval_shape(lambda model, x: model(x), model, x[:1])
    except (TypeError, ValueError) as error:
        raise NamedError(
            function,
            f"the model does not take inputs of the shape {x.shape[1:]} of {what}: {error}",
        ) from error
    if loss is default_loss:
        if not isinstance(outputs, jax.ShapeDtypeStruct):
            raise NamedError(
                function,
                f"the default loss takes a model whose output is one array, got "
                f"{type(outputs).__name__}: give a loss of your own",
            )
        check_labels(function, what, y, outputs.shape)
    if not callable(loss):
        raise NamedError(function, f"loss must be a function of outputs and labels, got {loss!r}")
    losses = jax.eval_shape(loss, outputs, y[:1])
    shape = getattr(losses, "shape", None)
    if shape != (1,):
        got = type(losses).__name__ if shape is None else f"the shape {shape[1:]} for each"
        raise NamedError(function, f"loss must give one number an example, got {got}")
    return outputs


def check_labels(function: str, what: str, y: jax.Array, outputs: tuple[int, ...]) -> None:
    """Raises unless there is an output for each label."""
    if not jnp.issubdtype(y.dtype, jnp.integer) or y.ndim != 1 or len(outputs) != 2:
        raise NamedError(
            function,
            f"the default loss takes integer labels of shape (n,) and outputs of shape "
            f"(n, classes), got for {what} {y.dtype}{list(y.shape)} and "
            f"({', '.join(['n', *map(str, outputs[1:])])})",
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= outputs[1]:
        raise NamedError(
            function,
            f"the labels of {what} must lie in [0, {outputs[1] - 1}], one for each "
            f"output of the model, got values from {low} to {high}",
        )
