"""A plain stack of dense layers with skip connections."""

from collections.abc import Sequence
from typing import Annotated

import jax
from flax import nnx
from jax.typing import ArrayLike

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.layers.activations import Activation
from jaxopt_cards.layers.initializers import he_normal
from jaxopt_cards.layers.mlp import MLP
from jaxopt_cards.layers.normalization import BatchNorm


class ResidualMLP(MLP):
    r"""An `MLP` with skip connections: a hidden layer adds to its input.

    A layer as wide as its input adds its output to the input. Other layers, usually the first, have
    no skip connection. Gradients reach the lower layers through the sums, so that more layers can
    be trained. The outputs are scaled by the number of layers, since the sums of deep networks
    would grow without bound otherwise. Layers have the names of an `MLP`, so freezing, reusing and
    caching are the same.

    Equation:
        .. math::
            h_0 &= x, \qquad h_i = h_{i-1} + \frac{1}{\sqrt{n}}\, \phi(h_{i-1} W_i + b_i) \\
            y &= h_n W + b

        with :math:`x` the inputs, :math:`h_i` the output of hidden layer :math:`i` of :math:`n`,
        :math:`W_i` and :math:`b_i` its kernel and bias, :math:`W` and :math:`b` those of `logits`,
        :math:`y` the logits, :math:`\phi` = `activation`. Without skip connection
        :math:`h_i = \phi(h_{i-1} W_i + b_i)`.

    Args:
        in_features: width of the input.
        out_features: number of classes.
        units: widths of the hidden layers, from below.
        activation: as in `MLP`.
        kernel_init: as in `MLP`.
        dropout_rate: as in `MLP`; it acts before the kernel, not on the skip connection.
        batch_norm: as in `MLP`.
        input_dropout_rate: as in `MLP`.
        drop_connect_rate: as in `MLP`.
        rngs: `nnx.Rngs`, the source of the initial weights and of the noise.

    Returns:
        A Flax NNX module from (batch, in_features) to (batch, out_features).

    State:
        As of an `MLP`; for a seed, the same initial weights.

    Raises:
        ValueError: an argument outside its range, an unknown name, or `rngs` that is not an
            `nnx.Rngs`.

    References:
        Kaiming He et al. (2016), Deep Residual Learning for Image Recognition: a skip connection
        over two layers; here it is over one.

    Use when: a stack of dense layers is so deep that it no longer trains.
    Avoid when: there are only a few layers; an `MLP` is enough.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxopt_cards.layers import ResidualMLP
        >>> model = ResidualMLP(64, 10, units=(100,) * 20, rngs=nnx.Rngs(0))
        >>> model.features(jnp.zeros((2, 64)), 20).shape
        (2, 100)
    """

    @declare
    def __init__(
        self,
        in_features: Annotated[int, "[1, inf)"],
        out_features: Annotated[int, "[1, inf)"],
        units: Sequence[int] = (100,) * 5,
        activation: Activation = jax.nn.elu,
        kernel_init: nnx.Initializer | str = he_normal,
        dropout_rate: ArrayLike | Sequence[ArrayLike] = 0.0,
        *,
        batch_norm: bool | BatchNorm = False,
        input_dropout_rate: Annotated[ArrayLike, "[0, 1)"] = 0.0,
        drop_connect_rate: Annotated[ArrayLike, "[0, 1)"] = 0.0,
        rngs: nnx.Rngs,
    ):
        """Makes the layers; the arguments are described with the class."""
        super().__init__(
            in_features,
            out_features,
            units,
            activation,
            kernel_init,
            dropout_rate,
            batch_norm=batch_norm,
            input_dropout_rate=input_dropout_rate,
            drop_connect_rate=drop_connect_rate,
            rngs=rngs,
        )
        self.scale = max(self.depth, 1) ** -0.5  # stays as it is if layers are dropped later

    def _layer(self, x: jax.Array, index: int) -> jax.Array:
        """The output of hidden layer number `index`, and its input if that has the same width."""
        y = super()._layer(x, index)
        return x + self.scale * y if x.shape == y.shape else y
