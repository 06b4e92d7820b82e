"""Adam's variants."""

from typing import Any

import jax
import optax
from optax import chain

from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.transforms.adam_variants import (
    scale_by_adamax,
    scale_by_amsgrad,
    scale_by_radam,
)
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


@named_in_errors
def adamax(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
) -> optax.GradientTransformation:
    r"""AdaMax: Adam with a decaying maximum in place of the root mean square.

    One large gradient sets the scale of the steps and is forgotten slowly.

    Equation:
        .. math::
            \nu_t &= \max(\beta_2 \nu_{t-1},\, |g_t| + \epsilon) \\
            \theta_t &= \theta_{t-1} - \frac{\eta}{1 - \beta_1^t} \cdot \frac{\mu_t}{\nu_t}

        with :math:`\eta` = `learning_rate`; :math:`\mu` and the other symbols as in
        `scale_by_adamax`.

    Args:
        learning_rate: float in [0, inf), or a schedule. The paper's is 0.002.
        b1: float in [0, 1); decay of the mean. The paper's 0.9.
        b2: float in [0, 1); decay of the maximum. The paper's 0.999.
        eps: float in (0, inf); keeps the division finite.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.ScaleByAdamState`: `count`, and `mu` and `nu`, one array each like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Diederik Kingma, Jimmy Ba (2015), Adam: A Method for Stochastic Optimization, section 7.1.

    Use when: gradients are sparse with rare large values, as of embeddings.
    Avoid when: Adam works: it is the better known quantity.

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


@named_in_errors
def amsgrad(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    mu_dtype: Any = None,
    bias_correction_mu: bool = True,
    bias_correction_nu: bool = True,
) -> optax.GradientTransformation:
    r"""AMSGrad: Adam whose rates never grow again.

    The denominator holds the largest mean square so far. The paper corrects no bias; Optax corrects
    before it takes the maximum, PyTorch and Keras after.

    Equation:
        .. math::
            \bar\nu_t &= \max\!\left(\bar\nu_{t-1},\, \frac{\nu_t}{1 - \beta_2^t}\right) \\
            \theta_t &= \theta_{t-1} - \eta\, \frac{\mu_t / (1 - \beta_1^t)}
                {\sqrt{\bar\nu_t + \bar\epsilon} + \epsilon}

        with :math:`\eta` = `learning_rate`; :math:`\mu, \nu` and the other symbols as in
        `scale_by_amsgrad`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        b1: float in [0, 1); decay of the mean. The paper's 0.9.
        b2: float in [0, 1); decay of the mean square. The paper's 0.999.
        eps: float in (0, inf), or 0 where `eps_root` is not; keeps the division finite.
        eps_root: float in [0, inf); inside the root, for gradients through the update.
        mu_dtype: dtype of `mu`; default that of the parameters, float32 at least.
        bias_correction_mu: bool; correct the mean for its start.
        bias_correction_nu: bool; correct the mean square for its start, before the maximum.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.ScaleByAmsgradState`: `count`, and `mu`, `nu` and `nu_max`, one array each like each
        parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Sashank Reddi, Satyen Kale, Sanjiv Kumar (2018), On the Convergence of Adam and Beyond.

    Use when: Adam fails to settle because rare, large gradients are forgotten.
    Avoid when: memory is short: it keeps three arrays a parameter.

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


@named_in_errors
def radam(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    threshold: jax.typing.ArrayLike = 5.0,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Rectified Adam: Adam that warms up by itself.

    While the mean square rests on few gradients the step is plain momentum; then Adam's, times a
    factor that grows to 1. The paper's threshold is 4, PyTorch's and Optax's 5.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\eta` = `learning_rate` and :math:`u_t` as in `scale_by_radam`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        b1: float in [0, 1); decay of the mean. The paper's 0.9.
        b2: float in [0, 1); decay of the mean square. The paper's 0.999.
        eps: float in (0, inf), or 0 where `eps_root` is not; keeps the division finite.
        eps_root: float in [0, inf); inside the root, for gradients through the update.
        threshold: float in [4, inf]; certainty from which Adam's step is taken. Infinity keeps
            plain momentum.
        nesterov: bool; Nadam's mean, which looks one step ahead.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.ScaleByAdamState`: `count`, and `mu` and `nu`, one array each like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Liyuan Liu et al. (2020), On the Variance of the Adaptive Learning Rate and Beyond.

    Use when: Adam needs a warm-up and you do not want to tune one.
    Avoid when: gradients are large: the first steps are momentum's, not scaled by them.

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
