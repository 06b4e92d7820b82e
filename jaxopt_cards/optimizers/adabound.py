"""AdaBound: Adam whose step sizes are bounded ever more tightly."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from optax import chain

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise
from jaxopt_cards.core.moments import abs_sq
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


class ScaleByAmsboundState(NamedTuple):
    """State of `scale_by_adabound` with `amsbound`."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    mu: optax.Updates  # like the parameters
    nu: optax.Updates  # like the parameters, real
    nu_max: optax.Updates  # like the parameters, real: the largest `nu` so far


@declare(elementwise=True)
def scale_by_adabound(
    final_scale: Annotated[ArrayLike, "(0, inf)"] = 100.0,
    gamma: Annotated[ArrayLike, "(0, inf)"] = 1e-3,
    b1: Annotated[ArrayLike, "[0, 1)"] = 0.9,
    b2: Annotated[ArrayLike, "[0, 1)"] = 0.999,
    eps: Annotated[ArrayLike, "(0, inf)"] = 1e-8,
    amsbound: bool = False,
    bias_correction: bool = True,
) -> optax.GradientTransformation:
    r"""Adam at first, gradient descent with momentum in the end: AdaBound.

    Each weight's rate is clipped between two bounds. They start at 0 and infinity, where the rule
    is Adam's, and converge to `final_scale`, where all weights have the same rate. The authors'
    code has a final rate of 0.1 and a learning rate of 0.001. Here the final rate is given as a
    multiple of the learning rate, so that a schedule scales both, as in their code.

    Sun et al.'s survey writes it otherwise: without bias correction, with bounds that converge to
    the learning rate itself, and the clipped rate divided by the root of the step. That is
    `bias_correction=False`, `final_scale=1.0` and a learning rate divided by that root:
    `adabound(schedules.power_decay(0.1, 1, 0.5), 1.0, bias_correction=False)`.

    Equation:
        .. math::
            \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1)\, g_t \\
            \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2)\, g_t^2 \\
            r_t &= \frac{\sqrt{1 - \beta_2^t}}{1 - \beta_1^t} \cdot
                \frac{1}{\sqrt{\nu_t} + \epsilon} \\
            u_t &= \mathrm{clip}\!\left(r_t,\; f \left(1 - \frac{1}{\gamma t + 1}\right),\;
                f \left(1 + \frac{1}{\gamma t}\right)\right) \mu_t

        with :math:`g_t` the gradient, :math:`u_t` the update, :math:`t` the number of the update
        from 1, :math:`\mu_t` and :math:`\nu_t` the running means of the gradients and of their
        squares, :math:`r_t` Adam's factor of the mean, :math:`f` = `final_scale`, :math:`\gamma` =
        `gamma`, :math:`\beta_1` = `b1`, :math:`\beta_2` = `b2`, :math:`\epsilon` = `eps`. AMSBound
        replaces :math:`\nu_t` in :math:`r_t` by the largest so far. Without bias correction,
        :math:`r_t` is the last fraction alone.

    Args:
        final_scale: the rate in the end, as a multiple of the learning rate. The authors' 0.1 /
            0.001 = 100.
        gamma: how fast the bounds converge: half way after about 1 / `gamma` steps.
        b1: decay of the mean.
        b2: decay of the mean square.
        eps: keeps the division finite.
        amsbound: whether to divide by the largest mean square so far, as AMSGrad does.
        bias_correction: whether to correct both means for their start at zero.

    State:
        `optax.ScaleByAdamState`: `count` (int32), `mu` and `nu`, each with one array for each
        parameter; with `amsbound` `ScaleByAmsboundState`, which also has `nu_max`.

    References:
        Liangchen Luo, Yuanhao Xiong, Yan Liu, Xu Sun (2019), Adaptive Gradient Methods with Dynamic
        Bound of Learning Rate. Shiliang Sun, Zehui Cao, Han Zhu, Jing Zhao (2019), A Survey of
        Optimization Methods from a Machine Learning Perspective.

    Use when: Adam is fast at first but gradient descent reaches better accuracy.
    Avoid when: you cannot tune the final rate; it matters as much as that of gradient descent.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_adabound()
        >>> updates, _ = tx.update(jnp.array([0.1, -10.0]), tx.init(jnp.zeros(2)))
        >>> print(updates.round(3))
        [ 1. -1.]
    """

    def init(param):
        zero = jnp.zeros_like(param.real)
        return (jnp.zeros_like(param), zero, zero)[: 3 if amsbound else 2]

    def update(grad, state, param, step):
        mu, nu, *nu_max = state
        t = step.astype(nu.dtype)
        mu = b1 * mu + (1 - b1) * grad
        nu = b2 * nu + (1 - b2) * abs_sq(grad)
        nu_max = [jnp.maximum(largest, nu) for largest in nu_max]
        size = jnp.sqrt(nu_max[0] if amsbound else nu) + eps
        rate = (jnp.sqrt(1 - b2**t) / (1 - b1**t) if bias_correction else 1) / size
        lower, upper = 1 - 1 / (gamma * t + 1), 1 + 1 / (gamma * t)
        return jnp.clip(rate, final_scale * lower, final_scale * upper) * mu, (mu, nu, *nu_max)

    return leafwise(init, update, ScaleByAmsboundState if amsbound else optax.ScaleByAdamState)


@declare(elementwise=True)
def adabound(
    learning_rate: optax.ScalarOrSchedule,
    final_scale: ArrayLike = 100.0,
    gamma: ArrayLike = 1e-3,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    bias_correction: bool = True,
) -> optax.GradientTransformation:
    r"""AdaBound: Adam at first, gradient descent with momentum in the end.

    Each weight's rate is clipped between two bounds that converge to one final rate for all. By
    default as in the authors' code: with Adam's bias correction, towards `final_scale` times the
    learning rate. `scale_by_adabound` says which arguments give the form in Sun et al.'s survey.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`u_t` as in
        `scale_by_adabound`.

    Args:
        learning_rate: as in `scale_by_learning_rate`. The authors' 0.001.
        final_scale, gamma, b1, b2, eps, bias_correction: as in `scale_by_adabound`.

    State:
        `optax.ScaleByAdamState`: `count` (int32), `mu` and `nu`, each with one array for each
        parameter.

    References:
        Liangchen Luo, Yuanhao Xiong, Yan Liu, Xu Sun (2019), Adaptive Gradient Methods with Dynamic
        Bound of Learning Rate.

    Use when: Adam is fast at first but gradient descent reaches better accuracy.
    Avoid when: you cannot tune the final rate.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adabound(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.900
    """
    return chain(
        scale_by_adabound(final_scale, gamma, b1, b2, eps, bias_correction=bias_correction),
        scale_by_learning_rate(learning_rate),
    )


@declare(elementwise=True)
def amsbound(
    learning_rate: optax.ScalarOrSchedule,
    final_scale: ArrayLike = 100.0,
    gamma: ArrayLike = 1e-3,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.999,
    eps: ArrayLike = 1e-8,
    bias_correction: bool = True,
) -> optax.GradientTransformation:
    r"""AMSBound: AdaBound with the largest mean square so far in the denominator.

    Applies AdaBound's bounds to AMSGrad's rates, which never increase.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`u_t` as in
        `scale_by_adabound`, in AMSBound's form.

    Args:
        learning_rate: as in `scale_by_learning_rate`. The authors' 0.001.
        final_scale, gamma, b1, b2, eps, bias_correction: as in `scale_by_adabound`.

    State:
        `ScaleByAmsboundState`: `count` (int32), `mu`, `nu` and `nu_max`, each with one array for
        each parameter.

    References:
        Liangchen Luo, Yuanhao Xiong, Yan Liu, Xu Sun (2019), Adaptive Gradient Methods with Dynamic
        Bound of Learning Rate.

    Use when: you would use `adabound`, but rare, large gradients should not be forgotten.
    Avoid when: you cannot tune the final rate.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.amsbound(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.900
    """
    return chain(
        scale_by_adabound(final_scale, gamma, b1, b2, eps, True, bias_correction),
        scale_by_learning_rate(learning_rate),
    )
