"""Adam's variants: a maximum for the mean, rates that never grow, a warm-up of its own."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards._checks import check_eps, check_float_dtype, check_number
from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.transforms._leafwise import leafwise
from jaxopt_cards.transforms._moments import abs_sq, bias_corrected, nesterov_mean


@named_in_errors
def scale_by_adamax(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
) -> optax.GradientTransformation:
    r"""Divides a running mean of the gradients by a decaying maximum of their sizes: AdaMax.

    Adam with the maximum norm in place of the root mean square: one large gradient sets the scale
    and is forgotten slowly. As in PyTorch, `eps` is added before the maximum is taken.

    Equation:
        .. math::
            \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1)\, g_t \\
            \nu_t &= \max(\beta_2 \nu_{t-1},\, |g_t| + \epsilon) \\
            u_t &= \frac{\mu_t}{(1 - \beta_1^t)\, \nu_t}

        with :math:`\beta_1` = `b1`, :math:`\beta_2` = `b2`, :math:`\epsilon` = `eps`,
        :math:`\mu_0 = \nu_0 = 0`.

    Args:
        b1: float in [0, 1); decay of the mean. The paper's 0.9.
        b2: float in [0, 1); decay of the maximum. The paper's 0.999.
        eps: float in (0, inf); keeps the division finite. Optax's 1e-8.

    Returns:
        An `optax.GradientTransformation`; updates keep shapes; see `leafwise` for dtypes.

    State:
        `optax.ScaleByAdamState`: `count` (int32), `mu`, and `nu`, which is real, one array each
        like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Diederik Kingma, Jimmy Ba (2015), Adam: A Method for Stochastic Optimization, section 7.1.

    Use when: gradients are sparse with rare large values, as of embeddings.
    Avoid when: Adam works: it is the better known quantity.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_adamax()
        >>> updates, _ = tx.update(jnp.array([0.1, -10.0]), tx.init(jnp.zeros(2)))
        >>> print(updates.round(3))
        [ 1. -1.]
    """
    b1 = check_number("scale_by_adamax", "b1", b1, "[0, 1)")
    b2 = check_number("scale_by_adamax", "b2", b2, "[0, 1)")
    eps = check_number("scale_by_adamax", "eps", eps, "(0, inf)")

    def init(param):
        return jnp.zeros_like(param), jnp.zeros_like(param.real)

    def update(grad, state, param, step):
        mu, nu = state
        mu = b1 * mu + (1 - b1) * grad
        nu = jnp.maximum(b2 * nu, jnp.abs(grad) + eps)
        return bias_corrected(mu, b1, step) / nu, (mu, nu)

    return leafwise(init, update, optax.ScaleByAdamState)


@named_in_errors
def scale_by_amsgrad(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> optax.GradientTransformation:
    r"""Adam with the largest mean square so far in the denominator: AMSGrad.

    The rate of a weight can then never grow again, which mends a flaw in Adam's proof of
    convergence. The paper corrects no bias (both switches `False`); Optax corrects before it takes
    the maximum, PyTorch and Keras after.

    Equation:
        .. math::
            \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1)\, g_t \\
            \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2)\, g_t^2 \\
            \bar\nu_t &= \max\!\left(\bar\nu_{t-1},\, \frac{\nu_t}{1 - \beta_2^t}\right) \\
            u_t &= \frac{\mu_t / (1 - \beta_1^t)}{\sqrt{\bar\nu_t + \bar\epsilon} + \epsilon}

        with :math:`\beta_1` = `b1`, :math:`\beta_2` = `b2`, :math:`\epsilon` = `eps`,
        :math:`\bar\epsilon` = `eps_root`, all means zero at first.

    Args:
        b1: float in [0, 1); decay of the mean.
        b2: float in [0, 1); decay of the mean square.
        eps: float in (0, inf), or 0 where `eps_root` is not; keeps the division finite.
        eps_root: float in [0, inf); inside the root.
        mu_dtype: dtype of `mu`; default that of the parameters, float32 at least.
        bias_correction_mu: bool; correct the mean for its start.
        bias_correction_nu: bool; correct the mean square for its start, before the maximum.

    Returns:
        An `optax.GradientTransformation`; updates keep shapes; see `leafwise` for dtypes.

    State:
        `optax.ScaleByAmsgradState`: `count` (int32), `mu`, `nu` and `nu_max`, one array each like
        each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Sashank Reddi, Satyen Kale, Sanjiv Kumar (2018), On the Convergence of Adam and Beyond.

    Use when: Adam fails to settle because rare, large gradients are forgotten.
    Avoid when: memory is short: it keeps three arrays a parameter.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_amsgrad(b1=0.0, b2=0.5)
        >>> state = tx.init(jnp.zeros(1))
        >>> for grad in (jnp.array([4.0]), jnp.array([1.0])):
        ...     updates, state = tx.update(grad, state)
        >>> print(updates)
        [0.25]
    """
    b1 = check_number("scale_by_amsgrad", "b1", b1, "[0, 1)")
    b2 = check_number("scale_by_amsgrad", "b2", b2, "[0, 1)")
    eps, eps_root = check_eps("scale_by_amsgrad", eps, eps_root)
    check_float_dtype("scale_by_amsgrad", "mu_dtype", mu_dtype)

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


@named_in_errors
def scale_by_radam(
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    threshold: jax.typing.ArrayLike = 5.0,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Adam with a warm-up computed from how certain its mean square is: rectified Adam.

    In the first steps the mean square rests on few gradients and its root varies wildly. Until
    enough are seen, the step is plain momentum; then Adam's, times a factor that grows to 1. The
    paper's threshold is 4, PyTorch's and Optax's 5.

    Equation:
        .. math::
            \rho_\infty &= \frac{2}{1 - \beta_2} - 1, \qquad
            \rho_t = \rho_\infty - \frac{2 t \beta_2^t}{1 - \beta_2^t} \\
            r_t &= \sqrt{\frac{(\rho_t - 4)(\rho_t - 2)\rho_\infty}
                {(\rho_\infty - 4)(\rho_\infty - 2)\rho_t}} \\
            u_t &= \begin{cases}
                r_t\, \hat\mu_t / (\sqrt{\hat\nu_t + \bar\epsilon} + \epsilon)
                    & \rho_t \ge \text{threshold} \\
                \hat\mu_t & \text{else} \end{cases}

        with :math:`\hat\mu, \hat\nu` as in `scale_by_adam`, :math:`\beta_2` = `b2`.

    Args:
        b1: float in [0, 1); decay of the mean.
        b2: float in [0, 1); decay of the mean square.
        eps: float in (0, inf), or 0 where `eps_root` is not; keeps the division finite.
        eps_root: float in [0, inf); inside the root.
        threshold: float in [4, inf]; certainty from which Adam's step is taken. Infinity keeps
            plain momentum.
        nesterov: bool; Nadam's mean, which looks one step ahead.

    Returns:
        An `optax.GradientTransformation`; updates keep shapes; see `leafwise` for dtypes.

    State:
        `optax.ScaleByAdamState`: `count` (int32), `mu` and `nu`, one array each like each
        parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Liyuan Liu et al. (2020), On the Variance of the Adaptive Learning Rate and Beyond.

    Use when: Adam needs a warm-up and you do not want to tune one.
    Avoid when: there is a warm-up schedule already.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_radam()
        >>> updates, _ = tx.update(jnp.array([0.5, -8.0]), tx.init(jnp.zeros(2)))
        >>> print(updates.round(3))
        [ 0.5 -8. ]
    """
    b1 = check_number("scale_by_radam", "b1", b1, "[0, 1)")
    b2 = check_number("scale_by_radam", "b2", b2, "[0, 1)")
    eps, eps_root = check_eps("scale_by_radam", eps, eps_root)
    threshold = check_number("scale_by_radam", "threshold", threshold, "[4, inf]")
    ro_inf = 2 / (1 - b2) - 1

    def init(param):
        return jnp.zeros_like(param), jnp.zeros_like(param.real)

    def update(grad, state, param, step):
        mu, nu = state
        mu = b1 * mu + (1 - b1) * grad
        nu = b2 * nu + (1 - b2) * abs_sq(grad)
        mu_hat, nu_hat = bias_corrected(mu, b1, step), bias_corrected(nu, b2, step)
        if nesterov:
            mu_hat = nesterov_mean(mu, grad, b1, step)
        t = step.astype(nu.dtype)
        ro = ro_inf - 2 * t * b2**t / (1 - b2**t)
        # Below 4 the root's argument is negative; the value is not taken there.
        square = (ro - 4) * (ro - 2) * ro_inf / ((ro_inf - 4) * (ro_inf - 2) * ro)
        adam = jnp.sqrt(jnp.maximum(square, 0)) * mu_hat / (jnp.sqrt(nu_hat + eps_root) + eps)
        return jnp.where(ro >= threshold, adam, mu_hat), (mu, nu)

    return leafwise(init, update, optax.ScaleByAdamState)
