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
    r"""Scales each gradient by the RMS of recent updates over the RMS of recent gradients.

    The unit of the gradient cancels and that of the parameter remains, so the rule needs no
    learning rate; the paper's is 1. PyTorch and Keras compute the same. Keras's defaults are 0.95
    for `rho` and 1e-7 for `eps`.

    Equation:
        .. math::
            e_t &= \rho\, e_{t-1} + (1 - \rho)\, g_t^2 \\
            u_t &= \sqrt{\frac{x_{t-1} + \epsilon}{e_t + \epsilon}}\; g_t \\
            x_t &= \rho\, x_{t-1} + (1 - \rho)\, u_t^2

        with :math:`g_t` the gradient, :math:`u_t` the update, :math:`e_t` and :math:`x_t` the
        running means of their squares, :math:`e_0 = x_0 = 0`, :math:`\rho` = `rho`,
        :math:`\epsilon` = `eps`.

    Args:
        rho: decay of both means.
        eps: sets the size of the first steps. The paper's 1e-6.

    State:
        `optax.ScaleByAdaDeltaState`: `e_g` and `e_x`, each with one real array for each parameter.

    References:
        Matthew Zeiler (2012), ADADELTA: An Adaptive Learning Rate Method.

    Use when: you cannot tune a learning rate at all.
    Avoid when: you can: Adam makes faster progress, and the first steps here are tiny.

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
    r"""Adadelta: steps whose size comes from earlier steps, not from a learning rate.

    The gradient is divided by its usual size and multiplied by that of the recent steps. Optax's
    default for the learning rate is `None`, which cannot be used; here it is the paper's 1. The
    decay, if any, is that of an ℓ2 penalty: it is added to the gradients before they are scaled.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`u_t` as in
        `scale_by_adadelta`.

    Args:
        learning_rate: as in `scale_by_learning_rate`. The paper's 1.
        rho, eps: as in `scale_by_adadelta`.
        weight_decay: float in (-inf, inf), or a schedule; strength of the ℓ2 penalty.
        weight_decay_mask: where to decay, as `mask` in `add_decayed_weights`.

    State:
        As in `scale_by_adadelta`.

    Raises:
        ValueError: an argument outside its range; (when updating, with decay) no parameters.

    References:
        Matthew Zeiler (2012), ADADELTA: An Adaptive Learning Rate Method.

    Use when: you cannot tune a learning rate at all.
    Avoid when: you can: Adam makes faster progress.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adadelta(rho=0.75, eps=1e-2), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.801
    """
    # Without decay the parameters are not needed. A mask changes the state, as in Optax.
    is_zero = isinstance(weight_decay, int | float) and weight_decay == 0
    decays = not is_zero or weight_decay_mask is not None
    decay = add_decayed_weights(weight_decay) if decays else identity()
    return chain(
        where(decay, weight_decay_mask, "weight_decay_mask"),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )
