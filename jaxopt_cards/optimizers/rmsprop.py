"""RMSProp: each step divided by a running root mean square of the gradients."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from optax import chain

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise
from jaxopt_cards.core.moments import abs_sq, bias_corrected
from jaxopt_cards.core.optax_states import state_class
from jaxopt_cards.optimizers.gradient_descent import momentum_stage
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


def _one_over_root(nu: jax.Array, eps: Any, eps_in_sqrt: bool) -> jax.Array:
    return jax.lax.rsqrt(nu + eps) if eps_in_sqrt else 1 / (jnp.sqrt(nu) + eps)


@declare(elementwise=True)
def scale_by_rms(
    decay: Annotated[ArrayLike, "[0, 1)"] = 0.9,
    eps: Annotated[ArrayLike, "(0, inf)"] = 1e-8,
    initial_scale: Annotated[ArrayLike, "[0, inf)"] = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    r"""Divides each gradient by its running root mean square: RMSProp.

    Steep and flat directions then move at about the same speed. Unlike AdaGrad's sum, the mean
    forgets, so the steps do not become ever smaller. Keras and Optax add `eps` inside the root,
    PyTorch outside (`eps_in_sqrt=False`). PyTorch's default decay is 0.99.

    Equation:
        .. math::
            \nu_t &= \beta\, \nu_{t-1} + (1 - \beta)\, g_t^2 \\
            u_t &= \frac{g_t}{\sqrt{\nu_t + \epsilon}}

        with :math:`g_t` the gradient, :math:`u_t` the update, :math:`\nu_t` the running mean of the
        squared gradients, :math:`\nu_0` = `initial_scale`, :math:`\beta` = `decay`,
        :math:`\epsilon` = `eps`.

    Args:
        decay: decay of the running means. Hinton's 0.9.
        eps: keeps the division finite.
        initial_scale: the mean square before the first step. Larger values make the first steps
            smaller.
        eps_in_sqrt: whether to add `eps` inside the root, or to the root.
        bias_correction: whether to divide the means by :math:`1 - \beta^t`, as Adam does.

    State:
        `optax.ScaleByRmsState`: `nu`, one real array for each parameter; with bias correction also
        `count`.

    References:
        Tijmen Tieleman, Geoffrey Hinton (2012), Lecture 6.5: RMSProp. Géron (2017), chapter 11,
        "RMSProp".

    Use when: gradients of different layers differ in size, above all in recurrent networks.
    Avoid when: Adam would do: it adds momentum and bias correction.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_rms(decay=0.75)
        >>> updates, _ = tx.update(jnp.array([0.1, -10.0]), tx.init(jnp.zeros(2)))
        >>> print(updates.round(3))
        [ 2. -2.]
    """

    def init(param):
        return jnp.full_like(param.real, initial_scale)

    def update(grad, nu, param, step):
        nu = decay * nu + (1 - decay) * abs_sq(grad)
        nu_hat = bias_corrected(nu, decay, step) if bias_correction else nu
        return grad * _one_over_root(nu_hat, eps, eps_in_sqrt), nu

    like = optax.scale_by_rms(bias_correction=bias_correction)
    return leafwise(init, update, state_class(like))


@declare(elementwise=True)
def scale_by_stddev(
    decay: Annotated[ArrayLike, "[0, 1)"] = 0.9,
    eps: Annotated[ArrayLike, "(0, inf)"] = 1e-8,
    initial_scale: Annotated[ArrayLike, "[0, inf)"] = 0.0,
    eps_in_sqrt: bool = True,
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    r"""Divides each gradient by its running standard deviation: centred RMSProp.

    Where the gradient keeps its sign and size, its deviation is small and the step grows; where it
    is noise, the step shrinks. A variance that rounding makes negative counts as zero; Optax gives
    NaN.

    Equation:
        .. math::
            \mu_t &= \beta\, \mu_{t-1} + (1 - \beta)\, g_t \\
            \nu_t &= \beta\, \nu_{t-1} + (1 - \beta)\, g_t^2 \\
            u_t &= \frac{g_t}{\sqrt{\nu_t - \mu_t^2 + \epsilon}}

        with :math:`g_t` the gradient, :math:`u_t` the update, :math:`\mu_t` and :math:`\nu_t` the
        running means of the gradients and of their squares, :math:`\mu_0 = 0`, :math:`\nu_0` =
        `initial_scale`, :math:`\beta` = `decay`, :math:`\epsilon` = `eps`.

    Args:
        decay, eps, initial_scale, eps_in_sqrt, bias_correction: as in `scale_by_rms`.

    State:
        `optax.ScaleByRStdDevState`: `mu` and `nu`, each with one array for each parameter; with
        bias correction also `count`.

    References:
        Alex Graves (2013), Generating Sequences With Recurrent Neural Networks.

    Use when: RMSProp's steps are too small where gradients are steady.
    Avoid when: gradients hardly vary, or the bias is corrected: the first steps are then huge.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_stddev(decay=0.5)
        >>> updates, _ = tx.update(jnp.array([0.1, -10.0]), tx.init(jnp.zeros(2)))
        >>> print(updates.round(3))
        [ 2. -2.]
    """

    def init(param):
        return jnp.zeros_like(param), jnp.full_like(param.real, initial_scale)

    def update(grad, state, param, step):
        mu, nu = state
        mu = decay * mu + (1 - decay) * grad
        nu = decay * nu + (1 - decay) * abs_sq(grad)
        mu_hat, nu_hat = mu, nu
        if bias_correction:
            mu_hat, nu_hat = (bias_corrected(moment, decay, step) for moment in (mu, nu))
        variance = jnp.maximum(nu_hat - abs_sq(mu_hat), 0.0)
        return grad * _one_over_root(variance, eps, eps_in_sqrt), (mu, nu)

    like = optax.scale_by_stddev(bias_correction=bias_correction)
    return leafwise(init, update, state_class(like))


@declare(elementwise=True)
def rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: ArrayLike = 0.9,
    eps: ArrayLike = 1e-8,
    initial_scale: ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: Annotated[optax.ScalarOrSchedule, "[0, 1]"] | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    r"""Gradient descent with each weight's step divided by its gradients' root mean square.

    The momentum, if any, accumulates steps that the learning rate has already scaled, as in Optax
    and Keras. PyTorch scales afterwards, which differs only when the rate changes. PyTorch adds
    `eps` outside the root, and its default decay is 0.99.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`u_t` as in
        `scale_by_rms`.

    Args:
        learning_rate: as in `scale_by_learning_rate`.
        decay, eps, initial_scale, eps_in_sqrt, bias_correction: as in `scale_by_rms`.
        centered: whether to divide by the standard deviation instead, as `scale_by_stddev` does.
        momentum: decay of the momentum, as `decay` in `trace`. Default: no momentum.
        nesterov: as in `trace`.

    State:
        `nu`, one array for each parameter; if centred also `mu`; with momentum also `trace`.

    References:
        Tijmen Tieleman, Geoffrey Hinton (2012), Lecture 6.5: RMSProp. Alex Graves (2013),
        Generating Sequences With Recurrent Neural Networks. Géron (2017), chapter 11, "RMSProp".

    Use when: gradients of different layers differ in size, above all in recurrent networks.
    Avoid when: Adam would do: it adds momentum and bias correction.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.rmsprop(0.1, decay=0.75), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.8]
    """
    scale = scale_by_stddev if centered else scale_by_rms
    return chain(
        scale(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        momentum_stage(momentum, nesterov, None),
    )
