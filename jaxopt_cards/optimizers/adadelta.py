"""AdaDelta: steps in the units of the parameters, without a learning rate to tune."""

from typing import Annotated, Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike
from optax import chain, identity

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise
from jaxopt_cards.core.moments import abs_sq
from jaxopt_cards.selection import where
from jaxopt_cards.transforms.decay import add_decayed_weights
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


@declare(elementwise=True)
def scale_by_adadelta(
    rho: Annotated[ArrayLike, "[0, 1)"] = 0.9,
    eps: Annotated[ArrayLike, "(0, inf)"] = 1e-6,
) -> optax.GradientTransformation:
    r"""Scales each gradient by the usual size of its steps over the usual size of itself.

    The units of the gradient cancel and those of the parameter remain, so the rule needs no
    learning rate: 1 is the paper's. Keras and PyTorch are the same; Keras takes `rho` 0.95, `eps`
    1e-7.

    Equation:
        .. math::
            e_t &= \rho\, e_{t-1} + (1 - \rho)\, g_t^2 \\
            u_t &= \sqrt{\frac{x_{t-1} + \epsilon}{e_t + \epsilon}}\; g_t \\
            x_t &= \rho\, x_{t-1} + (1 - \rho)\, u_t^2

        with :math:`\rho` = `rho`, :math:`\epsilon` = `eps`, :math:`e_0 = x_0 = 0`.

    Args:
        rho: float in [0, 1); how long both means remember.
        eps: float in (0, inf); sets the size of the first steps. The paper's 1e-6.

    Returns:
        An `optax.GradientTransformation`; updates keep shapes; see `leafwise` for dtypes.

    State:
        `optax.ScaleByAdaDeltaState`: `e_g` and `e_x`, one real array each like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Matthew Zeiler (2012), ADADELTA: An Adaptive Learning Rate Method.

    Use when: no learning rate can be tuned at all.
    Avoid when: one can: Adam gets further sooner; the first steps here are tiny.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_adadelta(rho=0.75, eps=1e-2)
        >>> updates, _ = tx.update(jnp.array([2.0]), tx.init(jnp.zeros(1)))
        >>> print(f"{updates[0]:.3f}")
        0.199
    """

    def init(param):
        return jnp.zeros_like(param.real), jnp.zeros_like(param.real)

    def update(grad, state, param, step):
        e_g, e_x = state
        e_g = rho * e_g + (1 - rho) * abs_sq(grad)
        delta = jnp.sqrt((e_x + eps) / (e_g + eps)) * grad
        e_x = rho * e_x + (1 - rho) * abs_sq(delta)
        return delta, (e_g, e_x)

    return leafwise(init, update, optax.ScaleByAdaDeltaState)


@declare(elementwise=True)
def adadelta(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    rho: ArrayLike = 0.9,
    eps: ArrayLike = 1e-6,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
) -> optax.GradientTransformation:
    r"""Adadelta: steps whose size comes from the steps before, not from a learning rate.

    The gradient is divided by its usual size and multiplied by that of the recent steps. Optax's
    default for the learning rate, `None`, cannot be used; here it is the paper's 1. The decay, if
    any, is that of an ℓ2 penalty: it is added to the gradients before they are scaled.

    Equation:
        .. math::
            e_t &= \rho\, e_{t-1} + (1 - \rho)\, g_t^2 \\
            u_t &= \sqrt{\frac{x_{t-1} + \epsilon}{e_t + \epsilon}}\; g_t, \qquad
            x_t = \rho\, x_{t-1} + (1 - \rho)\, u_t^2 \\
            \theta_t &= \theta_{t-1} - \eta\, u_t

        with :math:`\eta` = `learning_rate`, :math:`\rho` = `rho`, :math:`\epsilon` = `eps`.

    Args:
        learning_rate: float in [0, inf), or a schedule. The paper's 1.
        rho: float in [0, 1); how long both means remember.
        eps: float in (0, inf); sets the size of the first steps.
        weight_decay: float in (-inf, inf), or a schedule; strength of the ℓ2 penalty.
        weight_decay_mask: where to decay: a regular expression over paths, a tree of booleans, or a
            function from the parameters to one.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.ScaleByAdaDeltaState`: `e_g` and `e_x`, one real array each like each parameter.

    Raises:
        ValueError: a number outside its range; (when updating, if weights decay) no
            parameters.

    References:
        Matthew Zeiler (2012), ADADELTA: An Adaptive Learning Rate Method.

    Use when: no learning rate can be tuned at all.
    Avoid when: one can: Adam gets further sooner.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adadelta(rho=0.75, eps=1e-2), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.801
    """
    # Without decay there is no need of the parameters; a mask shows in the state, as in Optax.
    is_zero = isinstance(weight_decay, int | float) and weight_decay == 0
    decays = not is_zero or weight_decay_mask is not None
    decay = add_decayed_weights(weight_decay) if decays else identity()
    return chain(
        where(decay, weight_decay_mask, "weight_decay_mask"),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )
