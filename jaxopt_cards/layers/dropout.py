"""Noise against overfitting: units or weights dropped at random in training."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import check_float_dtype
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import named_as
from jaxopt_cards.layers.initializers import he_normal
from jaxopt_cards.layers.noisy import Noisy


class Rate(nnx.Variable):
    """The share that a layer drops: an array of a model, float32 of shape (), not a parameter.

    `nnx.state(model, layers.Rate)` returns all rates of a model.
    """


class Dropout(Noisy):
    r"""Sets a random share of its inputs to zero in training, and scales the others up.

    Computes the same as `nnx.Dropout`, but the rate is an array of the model (a `Rate`), not a
    constant of its graph. Models that differ only in their rate have the same graph: they share a
    compiled program, and can be stacked and trained together under `jax.vmap`.

    Géron's chapter 11 first describes another form: units are dropped without scaling, and the
    weights are multiplied by the keep probability, 1 minus the rate, after training. Both agree in
    expectation up to that factor; this form needs nothing after training, and no time in
    evaluation.

    Equation:
        .. math:: y_i = \frac{m_i\, x_i}{1 - p}, \quad m_i \sim \mathrm{Bernoulli}(1 - p); \qquad
            \text{in evaluation } y = x

        with :math:`x` the inputs, :math:`y` the outputs, :math:`m` the mask, :math:`p` = `rate`.

    Args:
        rate: the share that is dropped, also as an array of shape (). Géron's 0.5.
        rngs: `nnx.Rngs`; its stream `dropout` gives the masks.

    Returns:
        A Flax NNX module from an array to one of the same shape and dtype, switched by
        `model.train()` and `model.eval()`.

    State:
        `rate` (float32, shape ()), and key and count of the stream.

    Raises:
        ValueError: a rate outside [0, 1); (when called) inputs that are not of floating point.

    References:
        Geoffrey Hinton et al. (2012), Improving neural networks by preventing co-adaptation of
        feature detectors. Nitish Srivastava et al. (2014), Dropout: A Simple Way to Prevent Neural
        Networks from Overfitting. Géron (2017), chapter 11, "Dropout".

    Use when: the training loss is well below the validation loss.
    Avoid when: the network underfits, or there is little time: convergence is much slower.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxopt_cards.layers import Dropout
        >>> dropout = Dropout(0.75, rngs=nnx.Rngs(0))
        >>> set(dropout(jnp.ones(100)).tolist()) == {0.0, 4.0}
        True
        >>> dropout.eval()
        >>> print(dropout(jnp.ones(3)))
        [1. 1. 1.]
    """

    @declare
    def __init__(self, rate: Annotated[ArrayLike, "[0, 1)"], *, rngs: nnx.Rngs):
        """Keeps the rate as an array; the arguments are described with the class."""
        super().__init__(rngs)
        self.rate = Rate(jnp.asarray(rate, jnp.float32))

    @named_as("Dropout")
    def __call__(self, x: jax.Array) -> jax.Array:
        """The inputs, some of them dropped in training."""
        check_float_dtype("the dtype of x", x.dtype)
        key = self.next_key()
        if key is None:
            return x
        keep = 1 - self.rate[...]
        mask = jax.random.bernoulli(key, keep, x.shape)
        return jnp.where(mask, x / keep.astype(x.dtype), jnp.zeros_like(x))


class DropConnect(nnx.Linear):
    r"""A dense layer that sets a random share of its weights to zero in training.

    Dropout drops a unit for all units of the next layer; here each connection is dropped on its
    own. The remaining weights are scaled up, so that the mean over the masks is the whole kernel,
    which evaluation uses. All examples of a batch share a mask; the paper draws one for each, and
    also samples in evaluation. The bias is never dropped.

    Equation:
        .. math:: y = x\, \frac{M \odot W}{1 - p} + b, \quad M_{ij} \sim \mathrm{Bernoulli}(1 - p);
            \qquad \text{in evaluation } y = x W + b

        with :math:`x` the inputs, :math:`y` the outputs, :math:`W` the kernel, :math:`b` the bias,
        :math:`M` the mask, :math:`p` = `rate`.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        rate: the share that is dropped, also as an array of shape (). The paper's 0.5.
        kernel_init: initialiser of the kernel; the bias starts at zero.
        rngs: `nnx.Rngs`, the source of the initial weights and of the masks.

    Returns:
        A Flax NNX module from (..., in_features) to (..., out_features).

    State:
        Parameters `kernel` and `bias`; `dropout/rate` (float32, shape ()), a `Rate`; and key and
        count of the stream.

    References:
        Li Wan et al. (2013), Regularization of Neural Networks using DropConnect. Géron (2017),
        chapter 11, "Dropout".

    Use when: a wide dense layer overfits and dropout removes too much.
    Avoid when: batches are small: a mask is drawn for the whole kernel, whatever the batch.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxopt_cards.layers import DropConnect
        >>> layer = DropConnect(4, 3, 0.5, rngs=nnx.Rngs(0))
        >>> layer(jnp.ones((2, 4))).shape
        (2, 3)
    """

    @declare
    def __init__(
        self,
        in_features: Annotated[int, "[1, inf)"],
        out_features: Annotated[int, "[1, inf)"],
        rate: Annotated[ArrayLike, "[0, 1)"],
        *,
        kernel_init: nnx.Initializer = he_normal,
        rngs: nnx.Rngs,
    ):
        """Makes the weights; the arguments are described with the class."""
        super().__init__(in_features, out_features, kernel_init=kernel_init, rngs=rngs)
        self.dropout = Dropout(rate, rngs=rngs)

    @named_as("DropConnect")
    def __call__(self, inputs: jax.Array, out_sharding: Any = None) -> jax.Array:
        """The linear map, with some of the weights dropped in training."""
        return with_dropped_kernel(self, self.dropout, inputs, out_sharding)


def with_dropped_kernel(
    layer: nnx.Linear, dropout: Dropout, x: jax.Array, out_sharding: Any = None
) -> jax.Array:
    """A dense layer with dropout applied to its kernel."""
    bias = None if layer.bias is None else layer.bias[...].reshape((1,) * (x.ndim - 1) + (-1,))
    kernel = dropout(layer.kernel[...])
    x, kernel, bias = layer.promote_dtype((x, kernel, bias), dtype=layer.dtype)
    y = jnp.matmul(x, kernel, out_sharding=out_sharding)
    return y if bias is None else y + bias
