"""The frozen lower part of a network, run once."""

import os
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.data import Examples
from jaxopt_cards.training.inputs import check_range
from jaxopt_cards.training.prediction import batches
from jaxopt_cards.transfer.feature_files import fingerprint, on_disk


@declare
def cache_features(
    model: Any,
    upto: Annotated[int, "[1, inf)"],
    data: tuple[Any, Any],
    *,
    batch_size: Annotated[int, "[1, inf)"] = 1000,
    directory: str | os.PathLike | None = None,
) -> Examples:
    r"""Runs the lower layers over all inputs once, so that training need not.

    The outputs of hidden layer `upto`, with the labels as they were. Training the layers above on
    them gives the same parameters as training the whole network with the lower layers frozen, up to
    the rounding of float32: a matrix product of a thousand rows adds up in another order than one
    of twenty. Where all hidden layers are cached, the layer above is `model.logits`: train it by
    itself.

    The lower layers run in eval mode, whatever the model's: dropout drops nothing and batch
    normalisation uses its running statistics, which do not move. Features of augmented inputs
    cannot be cached, since they are others in each epoch.

    In a folder the features outlive the process: the next call with the same inputs and the same
    lower layers finds them. Their file's name holds a SHA-256 of the program of the lower layers,
    of the arrays it reads and of the inputs, so that nothing stale is used; the layers above and
    the labels do not count. Beside it lies a JSON file with the CRC-32 of the features, which is
    compared before they are used. What is damaged or half written is computed again. A process
    killed while it writes leaves a hidden `.features-*` file, never read, to be deleted by hand.

    Args:
        model: NNX module with a method `features(x, upto)`, such as `layers.MLP`.
        upto: whole number > 0; the last layer to run.
        data: pair (x, y). Weights of examples stay outside: `(*cache_features(...), weight)`.
        batch_size: whole number > 0; rows at a time, so that memory suffices.
        directory: folder for the features, made if it is not there. Default: none, in memory.

    Returns:
        `Examples` with `x` of shape (n, units of that layer): in memory, or with `directory` a
        read-only `numpy.memmap`.

    Raises:
        ValueError: the layer does not exist, data are not finite or do not fit the model,
            `directory` is a file.
        OSError: the features could not be written, as when the disk is full; no half file is left.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Caching the Frozen Layers" and exercise 9.3.

    Use when: lower layers are frozen and training takes several epochs.
    Avoid when: inputs are augmented, or lower layers drop units or normalise by the batch.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, transfer
        >>> model = layers.MLP(4, 3, units=(8, 2), rngs=nnx.Rngs(0))
        >>> transfer.cache_features(model, 2, (np.ones((5, 4)), np.zeros(5, int))).x.shape
        (5, 2)
    """
    x, y = _checked(data)
    _check_finite("inputs", x, batch_size)
    _check_finite("labels", y, batch_size)
    lower = _lower_part(model, upto, x[:batch_size])
    shape = (len(x), *lower.row.shape)
    parts = batches(lower.run, lower.state, x, min(batch_size, len(x)))
    if directory is not None:
        key = fingerprint(lower.run, (lower.state, x[:batch_size]), x)
        return Examples(on_disk(directory, key, parts, shape, lower.row.dtype), y)
    features = np.empty(shape, lower.row.dtype)
    for index, rows in enumerate(parts):
        features[index * batch_size : (index + 1) * batch_size] = rows
    return Examples(features, y)


class _Lower(NamedTuple):
    """The lower part of a model."""

    run: Any  # compiled: (state, rows) -> features
    state: Any
    row: jax.ShapeDtypeStruct  # the features of one input


def _checked(data: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        x, y = (np.asarray(array) for array in data)
    except (TypeError, ValueError):
        raise NamedError(
            "data must be (x, y), arrays of numbers, got "
            f"{type(data).__name__}; put weights beside them: (*cache_features(...), weight)",
        ) from None
    if x.ndim == 0 or y.ndim == 0 or len(x) == 0 or len(x) != len(y):
        raise NamedError(
            f"data must have as many inputs as labels, and some, got the shapes "
            f"{x.shape} and {y.shape}",
        )
    return x, y


def _check_finite(name: str, array: np.ndarray, rows: int) -> None:
    """Raises if a number is not finite or would be cut, as `fit` does.

    A few rows at a time, to spare memory.
    """
    check_range(f"the {name} of data", array)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    # As JAX will see them: a large float64 is infinite in float32.
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    for start in range(0, len(array), rows):
        with np.errstate(over="ignore"):
            some = array[start : start + rows].astype(dtype, copy=False)
        if not np.isfinite(some).all():
            row, *rest = np.argwhere(~np.isfinite(some))[0].tolist()
            got = array[start + row, *rest]
            kind = f"finite in {dtype}" if np.isfinite(got) else "finite"
            raise NamedError(
                f"the {name} of data must be {kind}, got {got} at {[start + row, *rest]}",
            )


def _lower_part(model: Any, upto: int, rows: np.ndarray) -> _Lower:
    """The lower layers of a copy in eval mode, if they take such rows."""
    if not (isinstance(model, nnx.Module) and callable(getattr(model, "features", None))):
        raise NamedError(
            "model must be an nnx.Module with a method features(x, upto), got "
            f"{type(model).__name__}",
        )
    model = nnx.clone(model)
    model.eval()
    graph, state = nnx.split(model)
    lower = jax.jit(lambda state, rows: nnx.merge(graph, state).features(rows, upto))
    try:
        features = jax.eval_shape(lower, state, rows)
    except HyperparameterError:
        raise  # of a layer that is not there
    except (TypeError, ValueError) as error:
        raise NamedError(
            f"the model does not take inputs of the shape {rows.shape[1:]}: {error}",
        ) from error
    if not isinstance(features, jax.ShapeDtypeStruct) or features.shape[:1] != rows.shape[:1]:
        raise NamedError(
            "features must be one array with a row for each input, got "
            f"{features} for {len(rows)} inputs",
        )
    return _Lower(lower, state, jax.ShapeDtypeStruct(features.shape[1:], features.dtype))
