"""AdaMax: Adam with the largest gradient in place of the mean square."""

from typing import Annotated

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from optax import chain

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise
from jaxopt_cards.core.moments import bias_corrected
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


@declare(elementwise=True)
def scale_by_adamax(
    b1: Annotated[ArrayLike, "[0, 1)"] = 0.9,
    b2: Annotated[ArrayLike, "[0, 1)"] = 0.999,
    eps: Annotated[ArrayLike, "(0, inf)"] = 1e-8,
) -> optax.GradientTransformation:
    r"""Divides a running mean of the gradients by a decaying maximum of their magnitudes: AdaMax.

    Adam with the maximum norm in place of the root mean square: one large gradient sets the scale
    and is forgotten slowly. As in PyTorch, `eps` is added before the maximum is taken.

    Equation:
        .. math::
            \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1)\, g_t \\
            \nu_t &= \max(\beta_2 \nu_{t-1},\, |g_t| + \epsilon) \\
            u_t &= \frac{\mu_t}{(1 - \beta_1^t)\, \nu_t}

        with :math:`g_t` the gradient, :math:`u_t` the update, :math:`t` the number of the update
        from 1, :math:`\mu_t` the running mean of the gradients, :math:`\nu_t` the decaying maximum
        of their magnitudes, :math:`\mu_0 = \nu_0 = 0`, :math:`\beta_1` = `b1`, :math:`\beta_2` =
        `b2`, :math:`\epsilon` = `eps`.

    Args:
        b1: decay of the mean. The paper's 0.9.
        b2: decay of the maximum. The paper's 0.999.
        eps: keeps the division finite. Optax's 1e-8.

    State:
        `optax.ScaleByAdamState`: `count` (int32), `mu`, and `nu`, which is real, each with one
        array for each parameter.

    References:
        Diederik Kingma, Jimmy Ba (2015), Adam: A Method for Stochastic Optimization, section 7.1.

    Use when: gradients are sparse with rare large values, such as those of embeddings.
    Avoid when: Adam works: it is better known.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_adamax()
        >>> updates, _ = tx.update(jnp.array([0.1, -10.0]), tx.init(jnp.zeros(2)))
        >>> print(updates.round(3))
        [ 1. -1.]
    """

    def init(param):
        return jnp.zeros_like(param), jnp.zeros_like(param.real)

    def update(grad, state, param, step):
        mu, nu = state
        mu = b1 * mu + (1 - b1) * grad
        nu = jnp.maximum(b2 * nu, jnp.abs(grad) + eps)
        return bias_corrected(mu, b1, step) / nu, (mu, nu)

    return leafwise(init, update, optax.ScaleByAdamState)


@declare(elementwise=True)
def adamax(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
) -> optax.GradientTransformation:
    r"""AdaMax: Adam with a decaying maximum in place of the root mean square.

    One large gradient sets the scale of the steps and is forgotten slowly.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`u_t` as in
        `scale_by_adamax`.

    Args:
        learning_rate: as in `scale_by_learning_rate`. The paper's 0.002.
        b1, b2, eps: as in `scale_by_adamax`.

    State:
        As in `scale_by_adamax`.

    References:
        Diederik Kingma, Jimmy Ba (2015), Adam: A Method for Stochastic Optimization, section 7.1.

    Use when: gradients are sparse with rare large values, such as those of embeddings.
    Avoid when: Adam works: it is better known.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adamax(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.900
    """
    return chain(
        scale_by_adamax(b1, b2, eps),
        scale_by_learning_rate(learning_rate),
    )
