"""Activation functions: those of Géron's chapter 11 by name, and RReLU, which Flax lacks."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.nnx import PReLU as PReLU
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import HyperparameterError, check_float_dtype
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import named_as
from jaxopt_cards.layers import elementwise
from jaxopt_cards.layers.noisy import Noisy

LOWER = 1 / 8
UPPER = 1 / 3


@declare
def rrelu(
    x: jax.Array,
    key: jax.Array | None = None,
    lower: Annotated[ArrayLike, "[0, 1]"] = LOWER,
    upper: Annotated[ArrayLike, "[0, 1]"] = UPPER,
) -> jax.Array:
    r"""Randomised leaky ReLU: the slope is drawn anew for each negative input.

    The noise acts as a regulariser. Without a key the slope is the mean, as in evaluation. This is
    PyTorch's version. The paper divides by a number drawn from [3, 8], which gives the same range
    of slopes with another distribution, and by 5.5 in evaluation.

    Equation:
        .. math:: y_i = \begin{cases} x_i & x_i \ge 0 \\ a_i x_i & x_i < 0 \end{cases}, \qquad
            a_i \sim U(l, u), \quad \text{without a key } a_i = \tfrac{1}{2}(l + u)

        with :math:`x_i` an input, :math:`y_i` its output, :math:`a_i` its slope, :math:`U` the
        uniform distribution, :math:`l` = `lower`, :math:`u` = `upper`.

    Args:
        x: array of floating point.
        key: JAX key of the slopes. Default: `None`, the mean slope.
        lower: smallest slope. Default as in PyTorch.
        upper: largest slope, at least `lower`. Default as in PyTorch.

    Returns:
        An array of the shape and dtype of `x`.

    Raises:
        ValueError: a slope outside [0, 1], or `lower` above `upper`.

    References:
        Bing Xu et al. (2015), Empirical Evaluation of Rectified Activations in Convolution Network.
        Géron (2017), chapter 11, "Nonsaturating Activation Functions".

    Use when: a leaky ReLU overfits: the data set is small.
    Avoid when: evaluation must use the same function as training, or ELU works as well.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.layers import rrelu
        >>> print(rrelu(jnp.array([-48.0, 2.0])))
        [-11.   2.]
    """
    check_slopes(lower, upper)
    check_float_dtype("x", jnp.result_type(x))
    if key is None:
        slope = (jnp.asarray(lower, x.dtype) + jnp.asarray(upper, x.dtype)) / 2
    else:
        slope = jax.random.uniform(key, x.shape, x.dtype, lower, upper)
    return jnp.where(x >= 0, x, slope * x)


class RReLU(Noisy):
    r"""Randomised leaky ReLU as a layer: random slopes in training, their mean in evaluation.

    `rrelu` with its own source of random numbers, switched by `model.train()` and `model.eval()`.

    Equation:
        .. math:: y_i = \begin{cases} x_i & x_i \ge 0 \\ a_i x_i & x_i < 0 \end{cases}, \qquad
            a_i \sim U(l, u), \quad \text{in evaluation } a_i = \tfrac{1}{2}(l + u)

        with the symbols of `rrelu`.

    Args:
        lower, upper: as in `rrelu`.
        rngs: `nnx.Rngs`; its stream `dropout` gives the slopes.

    Returns:
        A Flax NNX module from an array to one of the same shape and dtype.

    State:
        Key and count of the stream.

    Raises:
        ValueError: a slope outside [0, 1], or `lower` above `upper`.

    References:
        Bing Xu et al. (2015), Empirical Evaluation of Rectified Activations in Convolution Network.
        Géron (2017), chapter 11, "Nonsaturating Activation Functions".

    Use when: a leaky ReLU overfits: the data set is small.
    Avoid when: evaluation must use the same function as training, or ELU works as well.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxopt_cards.layers import RReLU
        >>> activation = RReLU(rngs=nnx.Rngs(0))
        >>> activation.eval()
        >>> print(activation(jnp.array([-48.0, 2.0])))
        [-11.   2.]
    """

    @declare
    def __init__(
        self,
        lower: Annotated[float, "[0, 1]"] = LOWER,
        upper: Annotated[float, "[0, 1]"] = UPPER,
        *,
        rngs: nnx.Rngs,
    ):
        """Keeps the range of slopes; the arguments are described with the class."""
        check_slopes(lower, upper)
        super().__init__(rngs)
        self.lower, self.upper = float(lower), float(upper)

    @named_as("RReLU")
    def __call__(self, x: jax.Array) -> jax.Array:
        """The activation."""
        return rrelu(x, self.next_key(), self.lower, self.upper)


Activation = str | Callable[[jax.Array], jax.Array] | type[nnx.Module]

ACTIVATIONS: dict[str, Any] = {
    "elu": jax.nn.elu,
    "relu": jax.nn.relu,
    "leaky_relu": jax.nn.leaky_relu,
    "selu": jax.nn.selu,
    "logistic": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "rrelu": RReLU,
    "prelu": nnx.PReLU,
}
# A model with a function of this package is the same as one with JAX's, also in a file.
_OF_JAX = {
    getattr(elementwise, name): ACTIVATIONS[name]
    for name in ("elu", "relu", "leaky_relu", "selu", "logistic", "tanh")
}


def activation_of(activation: Any) -> Any:
    """The function or class with this name; anything else is returned as it is."""
    found = ACTIVATIONS.get(activation) if isinstance(activation, str) else activation
    found = _OF_JAX.get(found, found) if inspect.isfunction(found) else found
    is_class = isinstance(found, type)
    if not callable(found) or (is_class and not issubclass(found, nnx.Module)):
        expected = f"be a function, a class of NNX modules or one of {list(ACTIVATIONS)}"
        raise HyperparameterError("activation", expected, activation)
    return found


def made(module: Any, rngs: nnx.Rngs) -> nnx.Module:
    """A module of this class, with random numbers if it takes any (`nnx.PReLU` does not)."""
    takes_rngs = "rngs" in inspect.signature(module.__init__).parameters
    return module(rngs=rngs) if takes_rngs else module()


def check_slopes(lower: Any, upper: Any) -> None:
    """Raises if `lower` is above `upper`."""
    traced = isinstance(lower, jax.core.Tracer) or isinstance(upper, jax.core.Tracer)
    if not traced and lower > upper:
        raise HyperparameterError("lower", f"be at most upper = {upper}", lower)
