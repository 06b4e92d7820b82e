"""The activation functions of Géron's chapter 11 that JAX has, each with its card."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import check_float_dtype
from jaxopt_cards.core.declaration import declare


@declare
def logistic(x: jax.Array) -> jax.Array:
    r"""Logistic function, or sigmoid: from 0 to 1.

    Far from zero it saturates, and its slope is at most a quarter: gradients vanish in lower
    layers. This is `jax.nn.sigmoid`.

    Equation:
        .. math:: \sigma(x) = \frac{1}{1 + \exp(-x)}

        with :math:`x` an input, :math:`\sigma(x)` the output.

    Args:
        x: array of floating point.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: `x` is not floating-point.

    References:
        Xavier Glorot, Yoshua Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks. Géron (2017), chapter 11, "Vanishing/Exploding Gradients
        Problems".

    Use when: the output is a probability of one of two classes.
    Avoid when: a hidden layer of a deep network, unless it is normalised by the batch.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.layers import logistic
        >>> print(logistic(jnp.array([-100.0, 0.0, 100.0])))
        [0.  0.5 1. ]
    """
    check_float_dtype("x", jnp.result_type(x))
    return jax.nn.sigmoid(x)


@declare
def tanh(x: jax.Array) -> jax.Array:
    r"""Hyperbolic tangent: from -1 to 1, with mean zero for symmetric inputs.

    It saturates like the logistic function, but its slope at zero is 1. This is `jnp.tanh`.

    Equation:
        .. math:: \tanh(x) = \frac{\exp(x) - \exp(-x)}{\exp(x) + \exp(-x)}

        with :math:`x` an input, :math:`\tanh(x)` the output.

    Args:
        x: array of floating point.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: `x` is not floating-point.

    References:
        Xavier Glorot, Yoshua Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks. Géron (2017), chapter 11, "Vanishing/Exploding Gradients
        Problems".

    Use when: outputs must be bounded and centred.
    Avoid when: a network is deep and not normalised by the batch: `elu` saturates on one side only.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.layers import tanh
        >>> print(tanh(jnp.array([-100.0, 0.0, 100.0])))
        [-1.  0.  1.]
    """
    check_float_dtype("x", jnp.result_type(x))
    return jnp.tanh(x)


@declare
def relu(x: jax.Array) -> jax.Array:
    r"""Rectified linear unit: zero for negative inputs.

    It is the quickest activation, and does not saturate for positive inputs. A unit whose inputs
    are negative for all examples has no gradient and stays at zero: it is dead. This is
    `jax.nn.relu`.

    Equation:
        .. math:: y = \max(0, x)

        with :math:`x` an input, :math:`y` the output.

    Args:
        x: array of floating point.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: `x` is not floating-point.

    References:
        Vinod Nair, Geoffrey Hinton (2010), Rectified Linear Units Improve Restricted Boltzmann
        Machines. Géron (2017), chapter 11, "Nonsaturating Activation Functions".

    Use when: the time of a prediction matters.
    Avoid when: the learning rate is high: units die.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.layers import relu
        >>> print(relu(jnp.array([-2.0, 0.0, 3.0])))
        [0. 0. 3.]
    """
    check_float_dtype("x", jnp.result_type(x))
    return jax.nn.relu(x)


@declare
def leaky_relu(x: jax.Array, negative_slope: Annotated[ArrayLike, "[0, 1]"] = 0.01) -> jax.Array:
    r"""Leaky ReLU: a small slope for negative inputs, so that units cannot die.

    The default slope is that of the paper, of the chapter and of JAX. The chapter also reports that
    0.2, a huge leak, did better than 0.01, a small one.
    `MLP(activation=functools.partial(leaky_relu, negative_slope=0.2))` tries it. This is
    `jax.nn.leaky_relu`.

    Equation:
        .. math:: y = \max(\alpha x, x)

        with :math:`x` an input, :math:`y` the output, :math:`\alpha` = `negative_slope`.

    Args:
        x: array of floating point.
        negative_slope: slope for negative inputs. Géron's 0.01; 0.2 is the chapter's huge leak.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: `x` is not floating-point, or a slope outside [0, 1].

    References:
        Andrew Maas et al. (2013), Rectifier Nonlinearities Improve Neural Network Acoustic Models.
        Bing Xu et al. (2015), Empirical Evaluation of Rectified Activations in Convolution Network.
        Géron (2017), chapter 11, "Nonsaturating Activation Functions".

    Use when: ReLU's units die, and prediction must be quick.
    Avoid when: `elu` is quick enough.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.layers import leaky_relu
        >>> print(leaky_relu(jnp.array([-100.0, 3.0])), leaky_relu(jnp.array([-100.0, 3.0]), 0.2))
        [-1.  3.] [-20.   3.]
    """
    check_float_dtype("x", jnp.result_type(x))
    return jax.nn.leaky_relu(x, negative_slope)


@declare
def prelu(x: jax.Array, slope: ArrayLike) -> jax.Array:
    r"""Parametric leaky ReLU: the slope for negative inputs is learned.

    `PReLU` is the layer that has the slope as a parameter; `MLP(activation="prelu")` has one for
    each hidden layer, which starts at 0.01. The paper starts at 0.25, with a slope for each unit.

    Equation:
        .. math:: y = \begin{cases} x & x \ge 0 \\ a x & x < 0 \end{cases}, \qquad
            \frac{\partial y}{\partial a} = \min(x, 0)

        with :math:`x` an input, :math:`y` the output, :math:`a` = `slope`.

    Args:
        x: array of floating point.
        slope: the parameter, an array of shape () or one that broadcasts to `x`.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: `x` is not floating-point.

    References:
        Kaiming He et al. (2015), Delving Deep into Rectifiers. Géron (2017), chapter 11,
        "Nonsaturating Activation Functions".

    Use when: there are many training examples.
    Avoid when: the data set is small: the slopes overfit.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.layers import prelu
        >>> print(prelu(jnp.array([-4.0, 3.0]), 0.25))
        [-1.  3.]
    """
    check_float_dtype("x", jnp.result_type(x))
    return jnp.where(x >= 0, x, jnp.asarray(slope, x.dtype) * x)


@declare
def elu(x: jax.Array, alpha: Annotated[ArrayLike, "(0, inf)"] = 1.0) -> jax.Array:
    r"""Exponential linear unit: smooth, and negative for negative inputs.

    The means of the outputs are closer to zero than those of ReLU, the gradient for negative inputs
    is not zero, and with :math:`\alpha = 1` the function is smooth at zero. The exponential takes
    more time than ReLU. The chapter's choice, and the default of `MLP`. This is `jax.nn.elu`.

    Equation:
        .. math:: y = \begin{cases} x & x \ge 0 \\ \alpha (\exp(x) - 1) & x < 0 \end{cases}

        with :math:`x` an input, :math:`y` the output, :math:`\alpha` = `alpha`, and :math:`-\alpha`
        the limit of the output.

    Args:
        x: array of floating point.
        alpha: minus the output for large negative inputs. Géron's 1.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: `x` is not floating-point, or an `alpha` that is not positive.

    References:
        Djork-Arné Clevert et al. (2016), Fast and Accurate Deep Network Learning by Exponential
        Linear Units. Géron (2017), chapter 11, "Nonsaturating Activation Functions".

    Use when: in hidden layers, if you do not know better.
    Avoid when: the time of a prediction matters: `relu` and `leaky_relu` are quicker.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.layers import elu
        >>> print(elu(jnp.array([-100.0, 0.0, 3.0])))
        [-1.  0.  3.]
    """
    check_float_dtype("x", jnp.result_type(x))
    return jax.nn.elu(x, alpha)


@declare
def selu(x: jax.Array) -> jax.Array:
    r"""Scaled ELU: outputs of plain deep stacks keep mean 0 and variance 1.

    This needs inputs of mean 0 and variance 1, and weights of variance 1 / fan-in (`lecun_normal`).
    It is younger than the chapter's text. This is `jax.nn.selu`.

    Equation:
        .. math::
            y = \lambda \begin{cases} x & x \ge 0 \\ \alpha (\exp(x) - 1) & x < 0 \end{cases},
            \qquad \lambda \approx 1.0507, \quad \alpha \approx 1.6733

        with :math:`x` an input, :math:`y` the output, :math:`\lambda` and :math:`\alpha` such that
        mean 0 and variance 1 are a fixed point, :math:`-\lambda \alpha` the limit of the output.

    Args:
        x: array of floating point.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: `x` is not floating-point.

    References:
        Günter Klambauer et al. (2017), Self-Normalizing Neural Networks.

    Use when: a deep stack of dense layers has no batch normalisation.
    Avoid when: there are skip connections, dropout or inputs that are not scaled.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.layers import selu
        >>> print(f"{selu(jnp.array(1.0)):.4f}")
        1.0507
    """
    check_float_dtype("x", jnp.result_type(x))
    return jax.nn.selu(x)
