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

    Combines momentum and RMSProp. Both means are corrected for their start at zero, so the first
    step already has the size of the learning rate. PyTorch computes the same. Keras adds `eps`
    before the correction, and its default is 1e-7. With `nesterov`, this is Nadam.

    Equation:
        .. math::
            \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1)\, g_t \\
            \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2)\, g_t^2 \\
            \hat\mu_t &= \frac{\mu_t}{1 - \beta_1^t} \quad\text{(Nadam: }
                \frac{\beta_1 \mu_t}{1 - \beta_1^{t+1}} + \frac{(1 - \beta_1)\, g_t}{1 - \beta_1^t}
                \text{)}, \qquad \hat\nu_t = \frac{\nu_t}{1 - \beta_2^t} \\
            u_t &= \frac{\hat\mu_t}{\sqrt{\hat\nu_t + \bar\epsilon} + \epsilon}

        with :math:`g_t` the gradient, :math:`u_t` the update, :math:`t` the number of the update
        from 1, :math:`\mu_t` and :math:`\nu_t` the running means of the gradients and of their
        squares, :math:`\hat\mu_t` and :math:`\hat\nu_t` the same means corrected for their start,
        :math:`\mu_0 = \nu_0 = 0`, :math:`\beta_1` = `b1`, :math:`\beta_2` = `b2`, :math:`\epsilon`
        = `eps`, :math:`\bar\epsilon` = `eps_root`.

    Args:
        b1: decay of the mean. The paper's 0.9.
        b2: decay of the mean square. The paper's 0.999.
        eps: float in (0, inf), or 0 if `eps_root` is not 0; keeps the division finite. The paper's
            1e-8.
        eps_root: float in [0, inf); added inside the root, for gradients through the update.
        mu_dtype: dtype of `mu`. Default: that of the parameters, at least float32.
        nesterov: whether to use Nadam's mean, which looks one step ahead.

    State:
        `optax.ScaleByAdamState`: `count` (int32), `mu` and `nu`, each with one array for each
        parameter.

    References:
        Diederik Kingma, Jimmy Ba (2015), Adam: A Method for Stochastic Optimization. Timothy Dozat
        (2016), Incorporating Nesterov Momentum into Adam. Géron (2017), chapter 11, "Adam
        Optimization".

    Use when: you want the optimizer to try first.
    Avoid when: the state must be small, or a tuned momentum generalises better.

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
    paper's 0.001 works often. PyTorch computes the same; Keras's default for `eps` is 1e-7.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`u_t` as in
        `scale_by_adam`.

    Args:
        learning_rate: as in `scale_by_learning_rate`. The paper's 0.001 is a good start.
        b1, b2, eps, eps_root, mu_dtype, nesterov: as in `scale_by_adam`.

    State:
        As in `scale_by_adam`.

    References:
        Diederik Kingma, Jimmy Ba (2015), Adam: A Method for Stochastic Optimization. Géron (2017),
        chapter 11, "Adam Optimization".

    Use when: you want the optimizer to try first.
    Avoid when: weights should decay; use `adamw`, which keeps the decay out of the division.

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

    The mean looks one step ahead, so the step brakes sooner. Same as `adam` with `nesterov=True`.
    In Dozat's paper the decay of the mean follows a schedule; here it is constant, as in Optax.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`u_t` as in
        `scale_by_adam`, in Nadam's form.

    Args:
        learning_rate: as in `scale_by_learning_rate`.
        b1, b2, eps, eps_root, mu_dtype, nesterov: as in `scale_by_adam`.

    State:
        As in `scale_by_adam`.

    References:
        Timothy Dozat (2016), Incorporating Nesterov Momentum into Adam.

    Use when: you would use Adam; Nadam is often a little faster.
    Avoid when: you compare with published results of Adam.

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

    The decay acts on the weights themselves. As a part of the gradient it would be divided by
    Adam's denominator, which undoes it. The decay is scaled by the learning rate, as in Optax and
    PyTorch. PyTorch's default is 0.01.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta \left( u_t + \lambda\, \theta_{t-1} \right)

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate`, :math:`\lambda` =
        `weight_decay` and :math:`u_t` as in `scale_by_adam`.

    Args:
        learning_rate: as in `scale_by_learning_rate`.
        b1, b2, eps, eps_root, mu_dtype, nesterov: as in `scale_by_adam`.
        weight_decay, mask: as in `add_decayed_weights`.

    State:
        As in `scale_by_adam`.

    References:
        Ilya Loshchilov, Frank Hutter (2019), Decoupled Weight Decay Regularization.

    Use when: a network overfits under Adam. With a decaying learning rate this is the usual choice
        today.
    Avoid when: you need exact zeros, which decay never gives.

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
