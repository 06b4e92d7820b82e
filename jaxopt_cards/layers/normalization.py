"""Batch normalisation: its options in an MLP."""

import dataclasses
from typing import Annotated, Any

from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare

MOMENTUM = 0.99
EPSILON = 1e-5


@dataclasses.dataclass(frozen=True, init=False)
class BatchNorm:
    r"""Batch normalisation in an `MLP`: its numbers, and where it stands.

    Every unit has four quantities. The scale and the offset are learned by gradient descent. The
    mean and the variance are estimated: in training from each batch, in evaluation by running means
    over the batches. Géron's chapter 11 has momentum 0.9 and epsilon 0.001, normalises before the
    activation, and normalises the logits as well: `BatchNorm(0.9, 1e-3, on_logits=True)`.

    Equation:
        .. math::
            \mu &= \frac{1}{m} \sum_{i=1}^{m} z_i, \qquad
            \sigma^2 = \frac{1}{m} \sum_{i=1}^{m} (z_i - \mu)^2 \\
            \hat z_i &= \frac{z_i - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad
            y_i = \gamma\, \hat z_i + \beta \\
            \bar\mu &\leftarrow a\, \bar\mu + (1 - a)\, \mu, \qquad
            \bar{\sigma}^2 \leftarrow a\, \bar{\sigma}^2 + (1 - a)\, \sigma^2

        with :math:`z_i` the inputs of one unit for the :math:`m` examples of a batch, :math:`\mu`
        and :math:`\sigma^2` their mean and variance, :math:`\hat z_i` the normalised inputs,
        :math:`y_i` the outputs, :math:`\gamma` the scale and :math:`\beta` the offset,
        :math:`\epsilon` = `epsilon`, :math:`a` = `momentum`. Evaluation replaces :math:`\mu` and
        :math:`\sigma^2` by their running means :math:`\bar\mu` and :math:`\bar{\sigma}^2`.

    Args:
        momentum: weight of the old running statistics. Default as in Keras and Flax; Géron's 0.9
            needs fewer steps. PyTorch's `momentum` is one minus it.
        epsilon: is added to the variance. Default as in Flax and PyTorch; Géron and Keras have
            0.001.
        before_activation: whether the inputs of the activation are normalised, or its outputs.
            Layers that are normalised before it have no bias: the offset replaces it.
        on_logits: whether to normalise the outputs of the network as well.

    Returns:
        What `batch_norm=` of `MLP` takes; `True` stands for `BatchNorm()`.

    State:
        In the model, for each hidden layer: parameters `hidden1_norm/scale` and
        `hidden1_norm/bias`, running `hidden1_norm/mean` and `hidden1_norm/var`; for the outputs
        `logits_norm`.

    Raises:
        ValueError: a number outside its range, or a switch that is not a bool.

    References:
        Sergey Ioffe, Christian Szegedy (2015), Batch Normalization: Accelerating Deep Network
        Training by Reducing Internal Covariate Shift. Géron (2017), chapter 11, "Batch
        Normalization".

    Use when: a network is deep, its activations saturate, or its inputs are not scaled.
    Avoid when: batches have few examples, or the time of a prediction matters.

    Example:
        >>> from flax import nnx
        >>> from jaxopt_cards.layers import MLP, BatchNorm
        >>> chapter = BatchNorm(momentum=0.9, epsilon=1e-3, on_logits=True)
        >>> model = MLP(784, 10, batch_norm=chapter, rngs=nnx.Rngs(0))
        >>> model.hidden1_norm.momentum, model.logits_norm.epsilon
        (0.9, 0.001)
    """

    momentum: float
    epsilon: float
    before_activation: bool
    on_logits: bool

    @declare
    def __init__(
        self,
        momentum: Annotated[float, "[0, 1)"] = MOMENTUM,
        epsilon: Annotated[float, "(0, inf)"] = EPSILON,
        before_activation: bool = True,
        on_logits: bool = False,
    ):
        """Keeps the options; the arguments are described with the class."""
        options: dict[str, Any] = {"momentum": float(momentum), "epsilon": float(epsilon)}
        switches = {"before_activation": before_activation, "on_logits": on_logits}
        for name, switch in switches.items():
            if not isinstance(switch, bool):
                raise HyperparameterError(name, "be True or False", switch)
        # Frozen, since models with equal options share a compiled program.
        for name, value in (options | switches).items():
            object.__setattr__(self, name, value)

    def layer(self, width: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
        """A layer for so many units."""
        return nnx.BatchNorm(width, momentum=self.momentum, epsilon=self.epsilon, rngs=rngs)


def batch_norm_of(batch_norm: Any, momentum: float = MOMENTUM) -> BatchNorm | None:
    """The options that were given; the momentum is that of `True`."""
    if isinstance(batch_norm, BatchNorm):
        if momentum not in (MOMENTUM, batch_norm.momentum):
            expected = "be left out where batch_norm is a BatchNorm"
            raise HyperparameterError("batch_norm_momentum", expected, momentum)
        return batch_norm
    if not isinstance(batch_norm, bool):
        raise HyperparameterError("batch_norm", "be True, False or a BatchNorm", batch_norm)
    return BatchNorm(momentum) if batch_norm else None
