"""Adam: momentum, and each step divided by the size of the gradients."""

from typing import Annotated, Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from optax import chain

from jaxopt_cards.core.checks import check_eps, check_float_dtype
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise
from jaxopt_cards.core.moments import abs_sq, bias_corrected, nesterov_mean
from jaxopt_cards.transforms.decay import add_decayed_weights
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


@declare(elementwise=True)
def scale_by_adam(
    b1: Annotated[ArrayLike, "[0, 1)"] = 0.9,
    b2: Annotated[ArrayLike, "[0, 1)"] = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
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
    eps, eps_root = check_eps(eps, eps_root)
    check_float_dtype("mu_dtype", mu_dtype)

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


@declare(elementwise=True)
def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Adam: momentum, and each weight's step divided by its gradients' root mean square.

    The learning rate is about the size of a step, whatever the scale of the gradients, so the
    paper's 0.001 works often. PyTorch is the same; Keras takes `eps` 1e-7.

    Equation:
        .. math::
            \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1)\, g_t \\
            \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2)\, g_t^2 \\
            \theta_t &= \theta_{t-1} - \eta\,
                \frac{\mu_t / (1 - \beta_1^t)}{\sqrt{\nu_t / (1 - \beta_2^t) + \bar\epsilon}
                + \epsilon}

        with :math:`\eta` = `learning_rate`; the other symbols as in `scale_by_adam`.

    Args:
        learning_rate: float in [0, inf), or a schedule. The paper's 0.001 is a good start.
        b1: float in [0, 1); decay of the mean. The paper's 0.9.
        b2: float in [0, 1); decay of the mean square. The paper's 0.999.
        eps: float in (0, inf), or 0 where `eps_root` is not; keeps the division finite. The paper's
            1e-8.
        eps_root: float in [0, inf); inside the root, for gradients through the update.
        mu_dtype: dtype of `mu`; default that of the parameters, float32 at least.
        nesterov: bool; Nadam's mean, which looks one step ahead.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.ScaleByAdamState`: `count`, and `mu` and `nu`, one array each like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Diederik Kingma, Jimmy Ba (2015), Adam: A Method for Stochastic Optimization. Chapter 11,
        "Adam Optimization".

    Use when: you want the optimizer to try first.
    Avoid when: weights should decay; use `adamw`, where decay does what it says.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adam(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.900
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@declare(elementwise=True)
def nadam(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = True,
) -> optax.GradientTransformation:
    r"""Nadam: Adam with Nesterov's momentum.

    The mean looks one step ahead, so the step brakes sooner. `adam` with `nesterov=True`, by its
    own name. Dozat's paper lets the decay of the mean follow a schedule; as in Optax it is constant
    here.

    Equation:
        .. math::
            \bar\mu_t &= \frac{\beta_1 \mu_t}{1 - \beta_1^{t+1}}
                + \frac{(1 - \beta_1)\, g_t}{1 - \beta_1^t} \\
            \theta_t &= \theta_{t-1} - \eta\,
                \frac{\bar\mu_t}{\sqrt{\nu_t / (1 - \beta_2^t) + \bar\epsilon} + \epsilon}

        with :math:`\eta` = `learning_rate`; :math:`\mu, \nu` and the other symbols as in
        `scale_by_adam`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        b1: float in [0, 1); decay of the mean. The paper's 0.9.
        b2: float in [0, 1); decay of the mean square. The paper's 0.999.
        eps: float in (0, inf), or 0 where `eps_root` is not; keeps the division finite.
        eps_root: float in [0, inf); inside the root, for gradients through the update.
        mu_dtype: dtype of `mu`; default that of the parameters, float32 at least.
        nesterov: bool; as in Optax, where `False` gives `adam`.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.ScaleByAdamState`: `count`, and `mu` and `nu`, one array each like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Timothy Dozat (2016), Incorporating Nesterov Momentum into Adam.

    Use when: wherever Adam is used; it is often a little faster.
    Avoid when: comparing with published results of Adam.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.nadam(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.853
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@declare(needs_params=True, elementwise=True)
def adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    eps_root: ArrayLike = 0.0,
    mu_dtype: Any = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Adam with decoupled weight decay.

    The decay acts on the weights themselves, not through the gradients, where Adam's division would
    undo it. As in Optax and PyTorch it is scaled by the learning rate; PyTorch's default is 0.01.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta \left( u_t + \lambda\, \theta_{t-1} \right)

        with :math:`u_t` as in `scale_by_adam`, :math:`\eta` = `learning_rate`, :math:`\lambda` =
        `weight_decay`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        b1: float in [0, 1); decay of the mean. The paper's 0.9.
        b2: float in [0, 1); decay of the mean square. The paper's 0.999.
        eps: float in (0, inf), or 0 where `eps_root` is not; keeps the division finite. The paper's
            1e-8.
        eps_root: float in [0, inf); inside the root, for gradients through the update.
        mu_dtype: dtype of `mu`; default that of the parameters, float32 at least.
        weight_decay: float in (-inf, inf), or a schedule. Optax's default 1e-4.
        mask: where to decay: a regular expression over paths, a tree of booleans, or a
            function from the parameters to one.
        nesterov: bool; Nadam's mean, which looks one step ahead.

    Returns:
        An `optax.GradientTransformation` that needs the parameters.

    State:
        `optax.ScaleByAdamState`: `count`, and `mu` and `nu`, one array each like each parameter.

    Raises:
        ValueError: a number outside its range; (when updating) no parameters.

    References:
        Ilya Loshchilov, Frank Hutter (2019), Decoupled Weight Decay Regularization.

    Use when: a network overfits under Adam; with a decaying rate, the usual choice today.
    Avoid when: exact zeros are wanted, which decay never gives.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adamw(0.1, weight_decay=0.5), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.850
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
