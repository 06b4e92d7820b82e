"""Stochastic pooling: the pooled value of each window is drawn from the window."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_count, check_float_dtype
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import named_as
from jaxopt_cards.layers.noisy import Noisy


@declare
def stochastic_pool(
    x: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    *,
    key: jax.Array | None = None,
) -> jax.Array:
    r"""Pools each window to one of its activations, drawn in proportion to their values.

    Like max pooling with noise: strong activations are drawn often, but not always. Without a key
    the result is the mean under the same probabilities, as in evaluation. Windows lie inside the
    input, as with "VALID" padding. The gradient goes to the activation that was drawn.

    Equation:
        .. math:: p_i = \frac{a_i}{\sum_k a_k}, \qquad y = a_l, \; l \sim p; \qquad
            \text{without a key } y = \sum_i p_i a_i

        with :math:`a` the activations of one window and channel, :math:`p` their probabilities,
        :math:`l` the index that is drawn, :math:`y` the output. If all are zero, the output is
        zero.

    Args:
        x: array of floating point, shape (batch, ..., channels), without negative numbers, as after
            a ReLU. A window with a negative number gives NaN.
        window_shape: ints > 0, one for each dimension between batch and channels.
        strides: ints > 0, one for each such dimension. Default: `window_shape`, so that windows do
            not overlap (Keras's default; Flax's is 1).
        key: JAX key of the draws. Default: `None`, the mean.

    Returns:
        An array of shape (batch, ..., channels), of the dtype of `x`.

    Raises:
        ValueError: a window of another number of dimensions or larger than the input, or numbers
            that are not ints > 0.

    References:
        Matthew Zeiler, Rob Fergus (2013), Stochastic Pooling for Regularization of Deep
        Convolutional Neural Networks.

    Use when: a convolutional network with ReLU overfits and max pooling is its only pooling.
    Avoid when: activations may be negative, as with ELU or tanh.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.layers import stochastic_pool
        >>> print(stochastic_pool(jnp.array([1.0, 3.0, 0.0, 0.0]).reshape(1, 4, 1), (2,)).ravel())
        [2.5 0. ]
    """
    strides = window_shape if strides is None else strides
    check_windows(x, window_shape, strides)
    activations = windows(x, window_shape, strides)
    activations = jnp.where(jnp.any(activations < 0, -1, keepdims=True), jnp.nan, activations)
    if key is not None:
        # The logarithm of zero is -inf: it is never drawn; in a window of zeros the first one is.
        chances = jnp.log(jax.lax.stop_gradient(activations))
        drawn = jax.random.categorical(key, chances)
        return jnp.take_along_axis(activations, drawn[..., None], -1)[..., 0]
    # Relative to the largest, so that sums of large numbers do not overflow.
    largest = jnp.max(activations, -1, keepdims=True)
    relative = activations / jnp.where(largest == 0, jnp.ones_like(largest), largest)
    total = jnp.sum(relative, -1)
    share = jnp.sum(relative**2, -1) / jnp.where(total == 0, jnp.ones_like(total), total)
    return share * largest[..., 0]


class StochasticPool(Noisy):
    r"""Stochastic pooling as a layer: random draws in training, the weighted mean in evaluation.

    `stochastic_pool` with its own source of random numbers, switched by `model.train()` and
    `model.eval()`.

    Equation:
        .. math:: p_i = \frac{a_i}{\sum_k a_k}, \qquad y = a_l, \; l \sim p; \qquad
            \text{in evaluation } y = \sum_i p_i a_i

        with the symbols of `stochastic_pool`.

    Args:
        window_shape, strides: as in `stochastic_pool`.
        rngs: `nnx.Rngs`; its stream `dropout` gives the draws.

    Returns:
        A Flax NNX module from (batch, ..., channels) to the same with fewer rows and columns.

    State:
        Key and count of the stream.

    Raises:
        ValueError: numbers that are not ints > 0; (when called) a window that does not fit.

    References:
        Matthew Zeiler, Rob Fergus (2013), Stochastic Pooling for Regularization of Deep
        Convolutional Neural Networks.

    Use when: a convolutional network with ReLU overfits and max pooling is its only pooling.
    Avoid when: activations may be negative, as with ELU or tanh.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxopt_cards.layers import StochasticPool
        >>> pool = StochasticPool((2, 2), rngs=nnx.Rngs(0))
        >>> pool(jnp.ones((1, 6, 4, 3))).shape
        (1, 3, 2, 3)
    """

    @declare
    def __init__(
        self,
        window_shape: Sequence[int],
        strides: Sequence[int] | None = None,
        *,
        rngs: nnx.Rngs,
    ):
        """Keeps the window; the arguments are described with the class."""
        self.window_shape = tuple(window_shape)
        self.strides = self.window_shape if strides is None else tuple(strides)
        check_sizes(self.window_shape, self.strides)
        super().__init__(rngs)

    @named_as("StochasticPool")
    def __call__(self, x: jax.Array) -> jax.Array:
        """The pooled activations."""
        return stochastic_pool(x, self.window_shape, self.strides, key=self.next_key())


def windows(x: jax.Array, window_shape: Sequence[int], strides: Sequence[int]) -> jax.Array:
    """All windows along the last dimension: shape (batch, ..., channels, size of a window)."""
    for dimension, (size, stride) in enumerate(zip(window_shape, strides, strict=True)):
        axis = dimension + 1
        starts = np.arange(0, x.shape[axis] - size + 1, stride)
        places = starts[:, None] + np.arange(size)
        # The window becomes the last axis, so that the index of the next axis does not change.
        x = jnp.moveaxis(jnp.take(x, places, axis), axis + 1, -1)
    return x.reshape(*x.shape[: len(window_shape) + 2], -1)


def check_windows(x: jax.Array, window_shape: Sequence[int], strides: Sequence[int]) -> None:
    """Raises unless the windows fit into the input."""
    check_float_dtype("the dtype of x", x.dtype)
    check_sizes(window_shape, strides)
    inside = x.shape[1:-1]
    if len(inside) != len(window_shape) or any(np.less(inside, window_shape)):
        raise HyperparameterError(
            "window_shape", f"fit into x.shape[1:-1] = {inside}", window_shape
        )


def check_sizes(window_shape: Sequence[int], strides: Sequence[int]) -> None:
    """Raises unless window and strides are equally many ints > 0."""
    for size in window_shape:
        check_count("each of window_shape", size)
    for stride in strides:
        check_count("each of strides", stride)
    if len(strides) != len(window_shape):
        expected = f"be {len(window_shape)} numbers, as window_shape is"
        raise HyperparameterError("strides", expected, strides)
