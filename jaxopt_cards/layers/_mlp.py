"""The chapter's network: a plain stack of dense layers with names."""

from collections.abc import Callable, Sequence

import jax
from flax import nnx

from jaxopt_cards._checks import HyperparameterError, check_count, check_number

# One function object for all models: networks of the same shape then share a compiled program.
he_normal = nnx.initializers.he_normal()


class MLP(nnx.Module):
    r"""Dense hidden layers `hidden1`, `hidden2`, … and an output layer `logits`.

    The chapter's network for images of digits is the default: five layers of 100 units, ELU, He's
    initialisation. Dropout, if any, acts on the input of every hidden layer but the first and of
    the output layer.

    Equation:
        .. math::
            h_0 &= x, \qquad h_i = \phi(h_{i-1} W_i + b_i) \\
            \mathrm{logits} &= h_n W + b

        with :math:`\phi` = `activation`.

    Args:
        in_features: whole number > 0; width of the input.
        out_features: whole number > 0; number of classes.
        units: widths of the hidden layers, from below.
        activation: function of an array.
        kernel_init: initialiser of the kernels; biases start at zero.
        dropout_rate: float in [0, 1); share of units dropped in training.
        rngs: `nnx.Rngs`, the source of the initial weights and of dropout.

    Returns:
        A Flax NNX module from (batch, in_features) to (batch, out_features).

    State:
        Parameters `hidden1/kernel`, `hidden1/bias`, …, `logits/kernel`, `logits/bias`.

    Raises:
        ValueError: a width that is not a whole number > 0, a rate outside [0, 1).

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, exercise 8. Kaiming He et al. (2015), Delving Deep into Rectifiers. Djork-Arné Clevert
        et al. (2016), Fast and Accurate Deep Network Learning by Exponential Linear Units.

    Use when: inputs are plain vectors, or as a baseline.
    Avoid when: inputs have structure, such as large images: convolutions need fewer weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxopt_cards.layers import MLP
        >>> model = MLP(784, 5, rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((2, 784))).shape, model.features(jnp.zeros((2, 784)), 5).shape
        ((2, 5), (2, 100))
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        units: Sequence[int] = (100,) * 5,
        activation: Callable[[jax.Array], jax.Array] = jax.nn.elu,
        kernel_init: nnx.Initializer = he_normal,
        dropout_rate: float = 0.0,
        *,
        rngs: nnx.Rngs,
    ):
        """Makes the layers; the arguments are described with the class."""
        check_count("MLP", "in_features", in_features)
        check_count("MLP", "out_features", out_features)
        for width in units:
            check_count("MLP", "each of units", width)
        check_number("MLP", "dropout_rate", dropout_rate, "[0, 1)")
        widths = [in_features, *units]
        for index in range(len(units)):
            layer = nnx.Linear(widths[index], widths[index + 1], kernel_init=kernel_init, rngs=rngs)
            setattr(self, f"hidden{index + 1}", layer)
        self.logits = nnx.Linear(widths[-1], out_features, kernel_init=kernel_init, rngs=rngs)
        self.depth = len(units)
        self.activation = activation
        self.dropout = nnx.Dropout(dropout_rate, rngs=rngs) if dropout_rate else None

    def features(self, x: jax.Array, upto: int | None = None) -> jax.Array:
        """The output of hidden layer number `upto`, from 1; 0 is the input, default the last."""
        upto = self.depth if upto is None else upto
        check_count("MLP.features", "upto", upto, least=0)
        if upto > self.depth:
            raise HyperparameterError("MLP.features", "upto", f"be at most {self.depth}", upto)
        for index in range(upto):
            if index:
                x = self._dropped(x)
            x = self.activation(getattr(self, f"hidden{index + 1}")(x))
        return x

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits, before any softmax."""
        return self.logits(self._dropped(self.features(x)))

    def _dropped(self, x: jax.Array) -> jax.Array:
        return x if self.dropout is None else self.dropout(x)
