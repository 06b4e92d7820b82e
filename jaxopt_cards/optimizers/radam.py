"""RAdam: Adam with a warm-up until its variance is reliable."""

from typing import Annotated

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from optax import chain

from jaxopt_cards.core.checks import check_eps
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise
from jaxopt_cards.core.moments import abs_sq, bias_corrected, nesterov_mean
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


@declare(elementwise=True)
def scale_by_radam(
    b1: Annotated[ArrayLike, "[0, 1)"] = 0.9,
    b2: Annotated[ArrayLike, "[0, 1)"] = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    threshold: Annotated[ArrayLike, "[4, inf]"] = 5.0,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Adam with a warm-up that follows from the reliability of its mean square: rectified Adam.

    In the first steps the mean square comes from few gradients and its root has a large variance.
    Until it is reliable, the step is plain momentum; then it is Adam's, times a factor that grows
    to 1. The paper's threshold is 4, PyTorch's and Optax's 5.

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

        with :math:`\rho_t` the effective number of gradients in the mean square, :math:`r_t` the
        factor of the warm-up, and the other symbols as in `scale_by_adam`.

    Args:
        b1, b2, eps, eps_root, nesterov: as in `scale_by_adam`.
        threshold: value of :math:`\rho_t` from which the step is Adam's. Infinity keeps plain
            momentum.

    State:
        As in `scale_by_adam`.

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
    eps, eps_root = check_eps(eps, eps_root)
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
        # Below 4 the argument of the root is negative; the value is not used there.
        square = (ro - 4) * (ro - 2) * ro_inf / ((ro_inf - 4) * (ro_inf - 2) * ro)
        adam = jnp.sqrt(jnp.maximum(square, 0)) * mu_hat / (jnp.sqrt(nu_hat + eps_root) + eps)
        return jnp.where(ro >= threshold, adam, mu_hat), (mu, nu)

    return leafwise(init, update, optax.ScaleByAdamState)


@declare(elementwise=True)
def radam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    threshold: ArrayLike = 5.0,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Rectified Adam: Adam with a built-in warm-up.

    While the mean square comes from few gradients, the step is plain momentum; then it is Adam's,
    times a factor that grows to 1. The paper's threshold is 4, PyTorch's and Optax's 5.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`u_t` as in
        `scale_by_radam`.

    Args:
        learning_rate: as in `scale_by_learning_rate`.
        b1, b2, eps, eps_root, nesterov: as in `scale_by_adam`.
        threshold: as in `scale_by_radam`.

    State:
        As in `scale_by_adam`.

    References:
        Liyuan Liu et al. (2020), On the Variance of the Adaptive Learning Rate and Beyond.

    Use when: Adam needs a warm-up and you do not want to tune one.
    Avoid when: gradients are large: the first steps are momentum's, which scale with them.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.radam(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.800
    """
    return chain(
        scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )
