"""Adaptive scaling: each weight's step divided by the usual size of its gradient."""

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards._checks import check_number
from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.transforms._leafwise import leafwise
from jaxopt_cards.transforms._moments import abs_sq


@named_in_errors
def scale_by_rss(
    initial_accumulator_value: jax.typing.ArrayLike = 0.1,
    eps: jax.typing.ArrayLike = 1e-7,
) -> optax.GradientTransformation:
    r"""Divides each gradient by the root of the sum of all its squares so far: AdaGrad.

    Steep directions are slowed down more than flat ones. The sum only grows, so the steps die out
    like one over the root of their number. Keras starts the sum at 0.1 as well, PyTorch at 0 with
    `eps` 1e-10 outside the root.

    Equation:
        .. math::
            s_t &= s_{t-1} + g_t^2 \\
            u_t &= \frac{g_t}{\sqrt{s_t + \epsilon}}, \text{ and } 0 \text{ where } s_t = 0

        with :math:`s_0` = `initial_accumulator_value`, :math:`\epsilon` = `eps`.

    Args:
        initial_accumulator_value: float in [0, inf); the sum before the first step. Optax's 0.1.
        eps: float in [0, inf); keeps the division finite. Optax's 1e-7.

    Returns:
        An `optax.GradientTransformation`; updates keep shapes; see `leafwise` for dtypes.

    State:
        `optax.ScaleByRssState`: `sum_of_squares`, one real array like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        John Duchi, Elad Hazan, Yoram Singer (2011), Adaptive Subgradient Methods for Online
        Learning and Stochastic Optimization. Chapter 11, "AdaGrad".

    Use when: features are sparse and the problem is simple, such as a linear model.
    Avoid when: the network is deep: the steps die out before the minimum.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_rss(initial_accumulator_value=0.0)
        >>> updates, _ = tx.update(jnp.array([3.0, 0.0]), tx.init(jnp.zeros(2)))
        >>> print(updates)
        [1. 0.]
    """
    initial_accumulator_value = check_number(
        "scale_by_rss", "initial_accumulator_value", initial_accumulator_value, "[0, inf)"
    )
    eps = check_number("scale_by_rss", "eps", eps, "[0, inf)")

    def init(param):
        return jnp.full_like(param.real, initial_accumulator_value)

    def update(grad, total, param, step):
        total = total + abs_sq(grad)
        return grad * jnp.where(total > 0, jax.lax.rsqrt(total + eps), 0), total

    return leafwise(init, update, optax.ScaleByRssState)


@named_in_errors
def scale_by_adadelta(
    rho: jax.typing.ArrayLike = 0.9, eps: jax.typing.ArrayLike = 1e-6
) -> optax.GradientTransformation:
    r"""Scales each gradient by the usual size of its steps over the usual size of itself.

    The units of the gradient cancel and those of the parameter remain, so the rule needs no
    learning rate: 1 is the paper's. Keras and PyTorch are the same; Keras takes `rho` 0.95, `eps`
    1e-7.

    Equation:
        .. math::
            e_t &= \rho\, e_{t-1} + (1 - \rho)\, g_t^2 \\
            u_t &= \sqrt{\frac{x_{t-1} + \epsilon}{e_t + \epsilon}}\; g_t \\
            x_t &= \rho\, x_{t-1} + (1 - \rho)\, u_t^2

        with :math:`\rho` = `rho`, :math:`\epsilon` = `eps`, :math:`e_0 = x_0 = 0`.

    Args:
        rho: float in [0, 1); how long both means remember.
        eps: float in (0, inf); sets the size of the first steps. The paper's 1e-6.

    Returns:
        An `optax.GradientTransformation`; updates keep shapes; see `leafwise` for dtypes.

    State:
        `optax.ScaleByAdaDeltaState`: `e_g` and `e_x`, one real array each like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Matthew Zeiler (2012), ADADELTA: An Adaptive Learning Rate Method.

    Use when: no learning rate can be tuned at all.
    Avoid when: one can: Adam gets further sooner; the first steps here are tiny.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_adadelta(rho=0.75, eps=1e-2)
        >>> updates, _ = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
        >>> print(f"{updates[0]:.3f}")
        0.199
    """
    rho = check_number("scale_by_adadelta", "rho", rho, "[0, 1)")
    eps = check_number("scale_by_adadelta", "eps", eps, "(0, inf)")

    def init(param):
        return jnp.zeros_like(param.real), jnp.zeros_like(param.real)

    def update(grad, state, param, step):
        e_g, e_x = state
        e_g = rho * e_g + (1 - rho) * abs_sq(grad)
        delta = jnp.sqrt((e_x + eps) / (e_g + eps)) * grad
        e_x = rho * e_x + (1 - rho) * abs_sq(delta)
        return delta, (e_g, e_x)

    return leafwise(init, update, optax.ScaleByAdaDeltaState)
