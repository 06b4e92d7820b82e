"""The frozen lower part of a network, run once."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxopt_cards._checks import check_count
from jaxopt_cards.data import Examples


def cache_features(
    model: Any, upto: int, data: tuple[Any, Any], *, batch_size: int = 1000
) -> Examples:
    r"""Runs the lower layers over all inputs once, so that training need not.

    The outputs of hidden layer `upto`, in evaluation mode, with the labels as they were. Training
    the layers above on them gives the same parameters as training the whole network with the lower
    layers frozen, up to the rounding of float32: a matrix product of a thousand rows adds up in
    another order than one of twenty. Where all hidden layers are cached, the layer above is
    `model.logits`: train it by itself.

    Equation:
        .. math:: S = \{(h_k(x_i), y_i)\}

        with :math:`h_k` the network up to hidden layer :math:`k` = `upto`.

    Args:
        model: NNX module with a method `features(x, upto)`, such as `layers.MLP`.
        upto: whole number > 0; the last layer to run.
        data: pair (x, y).
        batch_size: whole number > 0; rows at a time, so that memory suffices.

    Returns:
        `Examples` with `x` of shape (n, units of that layer), in memory.

    State:
        None.

    Raises:
        ValueError: the layer does not exist, or data do not fit the model.

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
    check_count("cache_features", "upto", upto)
    check_count("cache_features", "batch_size", batch_size)
    if not callable(getattr(model, "features", None)):
        raise ValueError(
            "cache_features: model must have a method features(x, upto), got "
            f"{type(model).__name__}"
        )
    x, y = (np.asarray(array) for array in data)
    if len(x) == 0 or len(x) != len(y):
        raise ValueError(
            f"cache_features: data must have as many inputs as labels, and some, got the shapes "
            f"{x.shape} and {y.shape}"
        )
    model = nnx.clone(model)
    model.eval()
    graph, state = nnx.split(model)
    lower = jax.jit(lambda state, rows: nnx.merge(graph, state).features(rows, upto))
    try:
        jax.eval_shape(lower, state, x[:1])
    except TypeError as error:
        raise ValueError(
            f"cache_features: the model does not take inputs of the shape {x.shape[1:]}: {error}"
        ) from error
    batches = [lower(state, x[i : i + batch_size]) for i in range(0, len(x), batch_size)]
    return Examples(np.concatenate(batches), y)
