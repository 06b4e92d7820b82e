"""Checks of what users give to training, before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import listed, named
from jaxopt_cards.training.epoch_program import Data

default_loss = optax.softmax_cross_entropy_with_integer_labels


def check_model(model: Any) -> None:
    """Raises unless the model is an NNX module."""
    if not isinstance(model, nnx.Module):
        got = model.__name__ if isinstance(model, type) else type(model).__name__
        raise NamedError(f"model must be an nnx.Module, an instance, got {got}")


def check_opt_state(opt_state: Any, wanted: Any) -> None:
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
            f"opt_state must be a state of tx for the parameters that are trained; "
            f"transfer.migrate_state converts that of another run. Differences:{listed(differing)}",
        )


def array_kind(leaf: Any) -> str:
    """Dtype and shape, as `float32[2, 3]`."""
    return f"{jnp.result_type(leaf)}{list(np.shape(leaf))}"


def on_device(what: str, examples: Any, *, weighted: bool = False) -> Data:
    """Examples as arrays on the device, if they are complete, finite and of one length."""
    kinds = "(x, y) or (x, y, weight)" if weighted else "(x, y)"
    try:
        x, y, *weight = map(numbers, examples)
        if len(weight) > weighted:
            raise ValueError
    except (TypeError, ValueError):
        raise NamedError(
            f"{what} must be {kinds}, arrays of numbers, got {_types(examples)}"
        ) from None
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise NamedError(
            f"{what} must have as many inputs as labels, got the shapes {x.shape} and {y.shape}",
        )
    if len(x) == 0:
        raise NamedError(f"{what} is empty: its inputs have the shape {x.shape}")
    x, y = (
        _moved(f"the {name} of {what}", array) for name, array in (("inputs", x), ("labels", y))
    )
    return Data(x, y, *(_checked_weight(what, w, len(y)) for w in weight))


def numbers(array: Any) -> Any:
    """The array as it was given, if it has numbers of a kind that JAX knows."""
    if isinstance(array, jax.Array):
        return array
    array = np.asarray(array)
    if array.dtype.kind not in "biufcV" or array.dtype == np.longdouble != np.dtype(float):
        raise TypeError
    jax.dtypes.canonicalize_dtype(array.dtype)  # raises for a structure of several fields
    return array


def _types(examples: Any) -> str:
    if not isinstance(examples, tuple | list):
        return str(type(examples))
    kinds = (type(part).__name__ + _of(part) for part in examples)
    return f"({', '.join(kinds)})"


def _of(part: Any) -> str:
    return f" of {part.dtype}" if hasattr(part, "dtype") else ""


def _moved(what: str, array: Any, dtype: Any = None) -> jax.Array:
    """The array on the device, with every number as it was, up to the rounding of floats."""
    check_range(what, array)
    xp = jnp if isinstance(array, jax.Array) else np  # NumPy has nothing to compile
    with np.errstate(over="ignore"):  # infinite values are reported below
        moved = xp.asarray(array, jax.dtypes.canonicalize_dtype(dtype or array.dtype))
    finite = xp.isfinite(moved)
    if not finite.all():
        first = tuple(np.argwhere(~np.asarray(finite))[0].tolist())
        kind = f"finite in {moved.dtype}" if np.isfinite(array[first]) else "finite"
        raise NamedError(f"{what} must be {kind}, got {array[first]} at {list(first)}")
    return jnp.asarray(moved)


def as_float32(argument: str, value: Any) -> jax.Array:
    """A number in float32, as long as it is a number there."""
    with np.errstate(over="ignore"):
        number = jnp.asarray(np.asarray(value), jnp.float32)
    if not np.isfinite(number):
        raise HyperparameterError(argument, "be finite in float32", value)
    return number


def check_range(what: str, array: Any) -> None:
    """Raises if an integer would be cut: without 64-bit types JAX keeps the lower 32 bits."""
    if not jnp.issubdtype(array.dtype, jnp.integer) or not array.size:
        return
    kept = jax.dtypes.canonicalize_dtype(array.dtype)
    if kept == array.dtype:
        return
    array, info = np.asarray(array), np.iinfo(kept)
    if array.min() < info.min or array.max() > info.max:
        outside = (array < info.min) | (array > info.max)
        first = np.unravel_index(np.argmax(outside), array.shape)
        place = [int(index) for index in first]
        raise NamedError(
            f"{what} must lie in [{info.min}, {info.max}], the range of {kept}, got "
            f"{array[first]} at {place}; with jax_enable_x64 they may have 64 bits",
        )


def _checked_weight(what: str, weight: Any, n: int) -> jax.Array:
    least = np.finfo(np.float32).tiny  # processors flush smaller numbers to 0
    real = jnp.issubdtype(weight.dtype, jnp.floating) or weight.dtype.kind in "biu"
    if real and weight.shape == (n,):
        # From NumPy's arrays of 64 bits straight to float32, so that large integers are not cut.
        plain = weight if isinstance(weight, jax.Array) else weight.astype(float)
        moved = _moved(f"the weights of {what}", plain, jnp.float32)
        if moved.min() >= 0 and moved.max() >= least:
            return moved
    values = f" with values from {weight.min()} to {weight.max()}" if real and weight.size else ""
    raise NamedError(
        f"the weights of {what} must be {n} numbers >= 0, not all 0, got {weight.dtype} of the "
        f"shape {weight.shape}{values}",
    )


def check_model_fits(what: str, model: nnx.Module, loss: Any, examples: Data) -> Any:
    """Raises unless the model takes such inputs and the loss such labels; the outputs' shape."""
    y = examples.y
    outputs = outputs_for(what, model, examples.x)
    if loss is default_loss:
        if not isinstance(outputs, jax.ShapeDtypeStruct):
            raise NamedError(
                f"the default loss takes a model whose output is one array, got "
                f"{type(outputs).__name__}: give a loss of your own",
            )
        check_labels(what, y, outputs.shape)
    if not callable(loss):
        raise NamedError(f"loss must be a function of outputs and labels, got {loss!r}")
    losses = jax.eval_shape(lambda outputs, y: loss(outputs, y[:1]), outputs, y)
    shape = getattr(losses, "shape", None)
    if shape != (1,):
        got = type(losses).__name__ if shape is None else f"the shape {shape[1:]} for each"
        raise NamedError(f"loss must return one number per example, got {got}")
    return outputs


def outputs_for(what: str, model: nnx.Module, x: Any) -> Any:
    """The shapes of the model's outputs for one row; raises unless it takes such inputs."""
    try:
        return nnx.eval_shape(lambda model, x: model(x[:1]), model, x)
    except (TypeError, ValueError) as error:
        raise NamedError(
            f"the model does not take inputs of the shape {x.shape[1:]} of {what}: {error}",
        ) from error


def check_labels(what: str, y: jax.Array, outputs: tuple[int, ...]) -> None:
    """Raises unless there is an output for each label."""
    if not jnp.issubdtype(y.dtype, jnp.integer) or y.ndim != 1 or len(outputs) != 2:
        raise NamedError(
            f"the default loss takes integer labels of shape (n,) and outputs of shape "
            f"(n, classes), got for {what} {y.dtype}{list(y.shape)} and "
            f"({', '.join(['n', *map(str, outputs[1:])])})",
        )
    labels = np.asarray(y) if y.is_fully_addressable else y  # NumPy has nothing to compile
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= outputs[1]:
        raise NamedError(
            f"the labels of {what} must lie in [0, {outputs[1] - 1}], one for each "
            f"output of the model, got values from {low} to {high}",
        )
