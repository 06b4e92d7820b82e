"""The network of Géron's chapter 11: a plain stack of dense layers with names."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import jax
import numpy as np
from flax import nnx
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import HyperparameterError, check_count, check_number
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.layers.activations import Activation, activation_of, made
from jaxopt_cards.layers.dropout import Dropout, with_dropped_kernel
from jaxopt_cards.layers.initializers import he_normal, initializer
from jaxopt_cards.layers.normalization import BatchNorm, batch_norm_of


class MLP(nnx.Module):
    r"""Dense hidden layers `hidden1`, `hidden2`, … and an output layer `logits`.

    The default is the network of Géron's chapter 11 for images of digits: five layers of 100 units,
    ELU, He initialisation. Arguments add batch normalisation, dropout and DropConnect; they do not
    change the initial weights for a seed. A rate given as the number 0 adds no layer; an array of 0
    adds one, for models that are trained together at several rates.

    Equation:
        .. math::
            h_0 &= x, \qquad h_i = \phi(h_{i-1} W_i + b_i) \\
            y &= h_n W + b

        with :math:`x` the inputs, :math:`h_i` the output of hidden layer :math:`i` of :math:`n`,
        :math:`W_i` and :math:`b_i` its kernel and bias, :math:`W` and :math:`b` those of `logits`,
        :math:`y` the logits, :math:`\phi` = `activation`, after batch normalisation if any.

    Args:
        in_features: width of the input.
        out_features: number of classes.
        units: widths of the hidden layers, from below.
        activation: function of an array; or "elu", "relu", "leaky_relu", "selu", "logistic",
            "tanh", "rrelu" or "prelu"; or a class of NNX modules, of which each layer gets its own.
            Géron's ELU.
        kernel_init: initialiser of the kernels, or its name, such as "he_normal"; "normal" has
            standard deviation 1. "logistic_normal", "tanh_uniform" or "relu_normal" are those of
            Géron's table 11-1, by the average of inputs and outputs; "relu_normal_fan_in" counts
            inputs only. Biases start at zero.
        dropout_rate: float in [0, 1); share of units dropped in training, on the input of every
            hidden layer but the first and of the output layer; also an array. A list has a rate for
            each of these inputs, from below.
        batch_norm: whether to normalise each hidden layer by the batch, before its activation; or
            a `BatchNorm` with its numbers and places. The biases of the layers are then those of
            the normalisation.
        batch_norm_momentum: decay of the running statistics, where `batch_norm` is `True`. Default
            as in Keras and Flax.
        input_dropout_rate: share of the input dropped in training; also an array.
        drop_connect_rate: share of the weights of hidden layers dropped in training; also an array.
        rngs: `nnx.Rngs`, the source of the initial weights and of the noise.

    Returns:
        A Flax NNX module from (batch, in_features) to (batch, out_features).

    State:
        Parameters `hidden1/kernel`, `hidden1/bias`, …, `logits/kernel`, `logits/bias`; with batch
        normalisation `hidden1_norm/scale`, `hidden1_norm/bias` and running `mean` and `var`; with a
        class as activation its state in `hidden1_activation`; the rates `dropout/rate`,
        `input_dropout/rate`, `drop_connect/rate`; of a list `hidden2_dropout/rate`, …,
        `logits_dropout/rate`.

    Raises:
        ValueError: an argument outside its range, an unknown name, or `rngs` that is not an
            `nnx.Rngs`.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, exercise 8. Kaiming He et al. (2015), Delving Deep into Rectifiers. Djork-Arné Clevert
        et al. (2016), Fast and Accurate Deep Network Learning by Exponential Linear Units. Sergey
        Ioffe, Christian Szegedy (2015), Batch Normalization.

    Use when: inputs are plain vectors, or as a baseline.
    Avoid when: inputs have structure, such as large images: convolutions need fewer weights.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxopt_cards.layers import MLP
        >>> model = MLP(784, 5, batch_norm=True, dropout_rate=0.5, rngs=nnx.Rngs(0))
        >>> model(jnp.zeros((2, 784))).shape, model.features(jnp.zeros((2, 784)), 5).shape
        ((2, 5), (2, 100))
    """

    below = 0  # how many hidden layers it lacks, and has the output of instead of inputs

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
        batch_norm_momentum: Annotated[float, "[0, 1)"] = 0.99,
        input_dropout_rate: Annotated[ArrayLike, "[0, 1)"] = 0.0,
        drop_connect_rate: Annotated[ArrayLike, "[0, 1)"] = 0.0,
        rngs: nnx.Rngs,
    ):
        """Makes the layers; the arguments are described with the class."""
        if not isinstance(rngs, nnx.Rngs):
            raise HyperparameterError("rngs", "be an nnx.Rngs, such as nnx.Rngs(0)", rngs)
        if isinstance(units, str) or not isinstance(units, Iterable):
            raise HyperparameterError("units", "be a list of widths, such as [100]", units)
        for width in units:
            check_count("each of units", width)
        self.activation = activation_of(activation)
        self.batch_norm = norm = batch_norm_of(batch_norm, batch_norm_momentum)
        kernel_init = initializer(kernel_init)
        self.depth = len(units)
        # All weights are made first, so that a seed gives the same weights whatever else is added.
        widths = [in_features, *units]
        for index in range(self.depth):
            layer = nnx.Linear(widths[index], widths[index + 1], kernel_init=kernel_init, rngs=rngs)
            if norm and norm.before_activation:
                _without_bias(layer)
            setattr(self, f"hidden{index + 1}", layer)
        self.logits = nnx.Linear(widths[-1], out_features, kernel_init=kernel_init, rngs=rngs)
        rates = dropout_rate if isinstance(dropout_rate, list | tuple) else None
        self.dropout = _dropout_or_none(dropout_rate, rngs) if rates is None else None
        if rates is not None:
            self._set_dropouts(rates, rngs)
        self.input_dropout = _dropout_or_none(input_dropout_rate, rngs)
        self.drop_connect = _dropout_or_none(drop_connect_rate, rngs)
        for index, width in enumerate(units, start=1):
            if norm:
                setattr(self, f"hidden{index}_norm", norm.layer(width, rngs))
            if isinstance(self.activation, type):
                setattr(self, f"hidden{index}_activation", made(self.activation, rngs))
        if norm and norm.on_logits:
            _without_bias(self.logits)
            self.logits_norm = norm.layer(out_features, rngs)

    def _set_dropouts(self, rates: Sequence[Any], rngs: nnx.Rngs) -> None:
        """Makes a dropout for the input of each layer but the first."""
        layers = [f"hidden{index}" for index in range(1, self.depth + 1)] + ["logits"]
        places = layers[1:] or layers
        if len(rates) != len(places):
            expected = f"have {len(places)} rates, for the inputs of {', '.join(places)}"
            raise HyperparameterError("dropout_rate", expected, rates)
        for layer, rate in zip(places, rates, strict=True):
            if dropout := _dropout_or_none(rate, rngs):
                setattr(self, f"{layer}_dropout", dropout)

    def features(self, x: jax.Array, upto: int | None = None) -> jax.Array:
        """The output of hidden layer number `upto`, from 1; 0 is the input. Default: the last."""
        upto = self.depth if upto is None else upto
        check_count("upto", upto, least=0)
        if upto > self.depth:
            raise HyperparameterError("upto", f"be at most {self.depth}", upto)
        for index in range(self.below + 1, upto + 1):
            x = self._layer(x, index)
        return x

    def above(self, upto: int) -> "MLP":
        """The layers above hidden layer number `upto`: a copy, whose input is that layer's output.

        The layers keep their names, so that patterns of paths mean the same in it.
        """
        check_count("upto", upto)
        if upto > self.depth:
            raise HyperparameterError("upto", f"be at most {self.depth}", upto)
        part = nnx.clone(self)
        part.below = upto
        for index in range(1, upto + 1):
            for end in ("", "_norm", "_activation", "_dropout"):
                if hasattr(part, f"hidden{index}{end}"):
                    delattr(part, f"hidden{index}{end}")
        return part

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits, before any softmax."""
        y = self.logits(self._dropped(self.features(x), self.depth + 1))
        return self.logits_norm(y) if hasattr(self, "logits_norm") else y

    def _layer(self, x: jax.Array, index: int) -> jax.Array:
        """Hidden layer number `index`, with its dropout."""
        return self._hidden(self._dropped(x, index), index)

    def _dropped(self, x: jax.Array, index: int) -> jax.Array:
        """The input of layer number `index`, after dropout if any."""
        if index == 1 and self.input_dropout is not None:
            x = self.input_dropout(x)
        if index == 1 and self.depth > 0:
            return x
        layer = "logits" if index > self.depth else f"hidden{index}"
        dropout = getattr(self, f"{layer}_dropout", self.dropout)
        return x if dropout is None else dropout(x)

    def _hidden(self, x: jax.Array, index: int) -> jax.Array:
        """Hidden layer number `index`: dense, activated, and normalised if `batch_norm`."""
        layer = getattr(self, f"hidden{index}")
        dropped = self.drop_connect
        x = layer(x) if dropped is None else with_dropped_kernel(layer, dropped, x)
        activation = getattr(self, f"hidden{index}_activation", self.activation)
        norm = getattr(self, f"hidden{index}_norm", None)
        if norm is None:
            return activation(x)
        before = self.batch_norm is None or self.batch_norm.before_activation
        return activation(norm(x)) if before else norm(activation(x))


def _without_bias(layer: nnx.Linear) -> None:
    """Removes the bias of a layer whose outputs are normalised.

    The normalisation subtracts it again. Its gradient is zero up to rounding, from which Adam makes
    whole steps; the running mean then lags behind.
    """
    layer.use_bias, layer.bias = False, None


def _dropout_or_none(rate: Any, rngs: nnx.Rngs) -> Dropout | None:
    """No layer for the number 0, so that the default costs nothing; an array may change later."""
    rate = check_number("dropout_rate", rate, "[0, 1)")
    return Dropout(rate, rngs=rngs) if isinstance(rate, jax.Array | np.ndarray) or rate else None
