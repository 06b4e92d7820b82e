"""Cached outputs of frozen lower layers."""

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
    r"""Computes the outputs of the lower layers for all inputs once, for use in training.

    Returns the outputs of hidden layer `upto`, with the unchanged labels. Training the layers above
    on them gives the same parameters as training the whole network with the lower layers frozen, up
    to the rounding of float32, since matrix products of other sizes sum in another order. If all
    hidden layers are cached, train the output layer, `model.logits`.

    The lower layers run in eval mode: without dropout, and with the running statistics of batch
    normalisation, which do not change. Features of augmented inputs cannot be cached, since they
    differ in each epoch.

    With `directory`, the features are kept on disk, and used again for the same inputs and the same
    lower layers. The name of the file contains a SHA-256 of the program of the lower layers, of its
    arrays and of the inputs, but not of higher layers or labels. A JSON file has the CRC-32 of the
    features, which is verified before use. Damaged or incomplete files are computed again. A
    process that is killed while it writes leaves a hidden `.features-*` file, which you may delete.

    Args:
        model: NNX module with a method `features(x, upto)`, such as `layers.MLP`.
        upto: the last layer to compute.
        data: pair (x, y). Add weights of examples to the result: `(*cache_features(...), weight)`.
        batch_size: rows per batch, which limits memory.
        directory: folder for the features, created if missing. Default: in memory.

    Returns:
        `Examples` with `x` of shape (n, units of that layer), in memory or, with `directory`, a
        read-only `numpy.memmap`.

    Raises:
        ValueError: the layer does not exist; data are not finite or do not fit the model;
            `directory` is a file.
        OSError: the features could not be written, for example because the disk is full.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Caching the Frozen Layers" and exercise 9.3.

    Use when: lower layers are frozen, and you train for several epochs.
    Avoid when: inputs are augmented, or lower layers need dropout or batch statistics.

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
            f"data must be (x, y), arrays of numbers, got {type(data).__name__}; "
            "add weights to the result: (*cache_features(...), weight)",
        ) from None
    if x.ndim == 0 or y.ndim == 0 or len(x) == 0 or len(x) != len(y):
        raise NamedError(
            f"data must have equally many inputs and labels, at least one, got the shapes "
            f"{x.shape} and {y.shape}",
        )
    return x, y


def _check_finite(name: str, array: np.ndarray, rows: int) -> None:
    """Raises if a number is not finite or out of range, as `fit` does; by batches of rows."""
    check_range(f"the {name} of data", array)
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return
    # In JAX's dtype: a large float64 is infinite in float32.
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
    """The lower layers of a copy in eval mode; raises if they do not accept such rows."""
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
        raise  # for a layer that does not exist
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
