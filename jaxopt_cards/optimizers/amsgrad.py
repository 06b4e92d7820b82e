"""AMSGrad: Adam whose denominator never falls."""

from typing import Annotated, Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from optax import chain

from jaxopt_cards.core.checks import check_eps, check_float_dtype
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise
from jaxopt_cards.core.moments import abs_sq, bias_corrected
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


@declare(elementwise=True)
def scale_by_amsgrad(
    b1: Annotated[ArrayLike, "[0, 1)"] = 0.9,
    b2: Annotated[ArrayLike, "[0, 1)"] = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> optax.GradientTransformation:
    r"""Adam with the largest mean square so far in the denominator: AMSGrad.

    The rate of a weight can then never grow again, which repairs a flaw in Adam's proof of
    convergence. The paper corrects no bias (both switches `False`). Optax corrects the bias before
    it takes the maximum, PyTorch and Keras after.

    Equation:
        .. math::
            \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1)\, g_t \\
            \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2)\, g_t^2 \\
            \bar\nu_t &= \max\!\left(\bar\nu_{t-1},\, \frac{\nu_t}{1 - \beta_2^t}\right) \\
            u_t &= \frac{\mu_t / (1 - \beta_1^t)}{\sqrt{\bar\nu_t + \bar\epsilon} + \epsilon}

        with :math:`g_t` the gradient, :math:`u_t` the update, :math:`t` the number of the update
        from 1, :math:`\mu_t` and :math:`\nu_t` the running means of the gradients and of their
        squares, :math:`\bar\nu_t` the largest mean square so far, all zero at first,
        :math:`\beta_1` = `b1`, :math:`\beta_2` = `b2`, :math:`\epsilon` = `eps`,
        :math:`\bar\epsilon` = `eps_root`.

    Args:
        b1, b2, eps, eps_root, mu_dtype: as in `scale_by_adam`.
        bias_correction_mu: whether to correct the mean for its start.
        bias_correction_nu: whether to correct the mean square for its start, before the maximum.

    State:
        `optax.ScaleByAmsgradState`: `count` (int32), `mu`, `nu` and `nu_max`, each with one array
        for each parameter.

    References:
        Sashank Reddi, Satyen Kale, Sanjiv Kumar (2018), On the Convergence of Adam and Beyond.

    Use when: Adam does not settle because rare, large gradients are forgotten.
    Avoid when: memory is short: it keeps three arrays for each parameter.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_amsgrad(b1=0.0, b2=0.5)
        >>> state = tx.init(jnp.zeros(1))
        >>> for grad in (jnp.array([4.0]), jnp.array([1.0])):
        ...     updates, state = tx.update(grad, state)
        >>> print(updates)
        [0.25]
    """
    eps, eps_root = check_eps(eps, eps_root)
    check_float_dtype("mu_dtype", mu_dtype)

    def init(param):
        zero = jnp.zeros_like(param.real)
        return jnp.zeros_like(param, dtype=mu_dtype), zero, zero

    def update(grad, state, param, step):
        mu, nu, nu_max = state
        mu = b1 * mu + (1 - b1) * grad
        nu = b2 * nu + (1 - b2) * abs_sq(grad)
        mu_hat = bias_corrected(mu, b1, step) if bias_correction_mu else mu
        nu_hat = bias_corrected(nu, b2, step) if bias_correction_nu else nu
        nu_max = jnp.maximum(nu_max, nu_hat)
        return mu_hat / (jnp.sqrt(nu_max + eps_root) + eps), (mu, nu, nu_max)

    return leafwise(init, update, optax.ScaleByAmsgradState)


@declare(elementwise=True)
def amsgrad(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> optax.GradientTransformation:
    r"""AMSGrad: Adam with per-weight rates that never increase.

    The denominator has the largest mean square so far. The paper corrects no bias. Optax corrects
    the bias before it takes the maximum, PyTorch and Keras after.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`u_t` as in
        `scale_by_amsgrad`.

    Args:
        learning_rate: as in `scale_by_learning_rate`.
        b1, b2, eps, eps_root, mu_dtype: as in `scale_by_adam`.
        bias_correction_mu, bias_correction_nu: as in `scale_by_amsgrad`.

    State:
        As in `scale_by_amsgrad`.

    References:
        Sashank Reddi, Satyen Kale, Sanjiv Kumar (2018), On the Convergence of Adam and Beyond.

    Use when: Adam does not settle because rare, large gradients are forgotten.
    Avoid when: memory is short: it keeps three arrays for each parameter.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.amsgrad(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.900
    """
    return chain(
        scale_by_amsgrad(b1, b2, eps, eps_root, mu_dtype, bias_correction_mu, bias_correction_nu),
        scale_by_learning_rate(learning_rate),
    )
