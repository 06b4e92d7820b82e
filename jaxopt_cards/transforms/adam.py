"""Adam and its kin: momentum, with each weight's step divided by the size of its gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards._checks import check_eps, check_float_dtype, check_number
from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.transforms._leafwise import leafwise
from jaxopt_cards.transforms._moments import abs_sq, bias_corrected, nesterov_mean


@named_in_errors
def scale_by_adam(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Divides a running mean of the gradients by the root of a running mean of their squares.

    Momentum and RMSProp in one, both corrected for starting at zero, so that the first step already
    has the size of the learning rate. PyTorch is the same; Keras adds `eps` before the correction
    and takes 1e-7. With `nesterov`, Nadam.

    Equation:
        .. math::
            \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1)\, g_t \\
            \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2)\, g_t^2 \\
            \hat\mu_t &= \frac{\mu_t}{1 - \beta_1^t} \quad\text{(Nadam: }
                \frac{\beta_1 \mu_t}{1 - \beta_1^{t+1}} + \frac{(1 - \beta_1)\, g_t}{1 - \beta_1^t}
                \text{)} \\
            u_t &= \frac{\hat\mu_t}{\sqrt{\nu_t / (1 - \beta_2^t) + \bar\epsilon} + \epsilon}

        with :math:`\beta_1` = `b1`, :math:`\beta_2` = `b2`, :math:`\epsilon` = `eps`,
        :math:`\bar\epsilon` = `eps_root`, :math:`\mu_0 = \nu_0 = 0`.

    Args:
        b1: float in [0, 1); decay of the mean. The paper's 0.9.
        b2: float in [0, 1); decay of the mean square. The paper's 0.999.
        eps: float in (0, inf), or 0 where `eps_root` is not; keeps the division finite. The paper's
            1e-8.
        eps_root: float in [0, inf); inside the root, for gradients through the update.
        mu_dtype: dtype of `mu`; default that of the parameters, float32 at least.
        nesterov: bool; Nadam's mean, which looks one step ahead.

    Returns:
        An `optax.GradientTransformation`; updates keep shapes; see `leafwise` for dtypes.

    State:
        `optax.ScaleByAdamState`: `count` (int32), `mu` and `nu`, one array each like each
        parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Diederik Kingma, Jimmy Ba (2015), Adam: A Method for Stochastic Optimization. Timothy Dozat
        (2016), Incorporating Nesterov Momentum into Adam. Chapter 11, "Adam Optimization".

    Use when: you want the optimizer to try first.
    Avoid when: state must be small, or a tuned momentum generalises better.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_adam()
        >>> updates, state = tx.update(jnp.array([0.1, -10.0]), tx.init(jnp.zeros(2)))
        >>> print(updates.round(3), state.count)
        [ 1. -1.] 1
    """
    b1 = check_number("scale_by_adam", "b1", b1, "[0, 1)")
    b2 = check_number("scale_by_adam", "b2", b2, "[0, 1)")
    eps, eps_root = check_eps("scale_by_adam", eps, eps_root)
    check_float_dtype("scale_by_adam", "mu_dtype", mu_dtype)

    def init(param):
        return jnp.zeros_like(param, dtype=mu_dtype), jnp.zeros_like(param.real)

    def update(grad, state, param, step):
        mu, nu = state
        mu = b1 * mu + (1 - b1) * grad
        nu = b2 * nu + (1 - b2) * abs_sq(grad)
        mu_hat, nu_hat = bias_corrected(mu, b1, step), bias_corrected(nu, b2, step)
        if nesterov:
            mu_hat = nesterov_mean(mu, grad, b1, step)
        return mu_hat / (jnp.sqrt(nu_hat + eps_root) + eps), (mu, nu)

    return leafwise(init, update, optax.ScaleByAdamState)
