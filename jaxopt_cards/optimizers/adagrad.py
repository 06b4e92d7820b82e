"""AdaGrad: each step divided by the root of the sum of squared gradients."""

from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from optax import chain

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise
from jaxopt_cards.core.moments import abs_sq
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


@declare(elementwise=True)
def scale_by_rss(
    initial_accumulator_value: Annotated[ArrayLike, "[0, inf)"] = 0.1,
    eps: Annotated[ArrayLike, "[0, inf)"] = 1e-7,
) -> optax.GradientTransformation:
    r"""Divides each gradient by the root of the sum of all its squares so far: AdaGrad.

    Steep directions are slowed down more than flat ones. The sum only grows, so the size of the
    steps falls with the root of their number. Keras also starts the sum at 0.1. PyTorch starts it
    at 0, with `eps` 1e-10 outside the root.

    Equation:
        .. math::
            s_t &= s_{t-1} + g_t^2 \\
            u_t &= \frac{g_t}{\sqrt{s_t + \epsilon}}, \text{ and } 0 \text{ where } s_t = 0

        with :math:`g_t` the gradient, :math:`u_t` the update, :math:`s_t` the sum of the squared
        gradients, :math:`s_0` = `initial_accumulator_value`, :math:`\epsilon` = `eps`.

    Args:
        initial_accumulator_value: the sum before the first step. Optax's 0.1.
        eps: keeps the division finite. Optax's 1e-7.

    State:
        `optax.ScaleByRssState`: `sum_of_squares`, one real array for each parameter.

    References:
        John Duchi, Elad Hazan, Yoram Singer (2011), Adaptive Subgradient Methods for Online
        Learning and Stochastic Optimization. Géron (2017), chapter 11, "AdaGrad".

    Use when: features are sparse and the problem is simple, such as a linear model.
    Avoid when: the network is deep: the steps become too small before the minimum.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_rss(initial_accumulator_value=0.0)
        >>> updates, _ = tx.update(jnp.array([3.0, 0.0]), tx.init(jnp.zeros(2)))
        >>> print(updates)
        [1. 0.]
    """

    def init(param):
        return jnp.full_like(param.real, initial_accumulator_value)

    def update(grad, total, param, step):
        total = total + abs_sq(grad)
        return grad * jnp.where(total > 0, jax.lax.rsqrt(total + eps), 0), total

    return leafwise(init, update, optax.ScaleByRssState)


@declare(elementwise=True)
def adagrad(
    learning_rate: optax.ScalarOrSchedule,
    initial_accumulator_value: ArrayLike = 0.1,
    eps: ArrayLike = 1e-7,
) -> optax.GradientTransformation:
    r"""AdaGrad: gradient descent with steps that shrink fastest where gradients have been large.

    Each weight's gradient is divided by the root of the sum of all its squares so far. Géron
    advises against it for deep networks, since the sum never shrinks. Keras also starts at 0.1,
    PyTorch at 0.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`u_t` as in
        `scale_by_rss`.

    Args:
        learning_rate: as in `scale_by_learning_rate`.
        initial_accumulator_value, eps: as in `scale_by_rss`.

    State:
        As in `scale_by_rss`.

    References:
        John Duchi, Elad Hazan, Yoram Singer (2011), Adaptive Subgradient Methods for Online
        Learning and Stochastic Optimization. Géron (2017), chapter 11, "AdaGrad".

    Use when: the model is linear or shallow and its features are sparse.
    Avoid when: the network is deep: training stops before it has converged.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adagrad(0.1, 0.0), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.9]
    """
    return chain(
        scale_by_rss(initial_accumulator_value, eps),
        scale_by_learning_rate(learning_rate),
    )
