"""Nesterov's momentum with the gradient measured ahead."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise, value_at
from jaxopt_cards.core.states import found_state


class ScaleByTrueNesterovState(NamedTuple):
    """State of `scale_by_true_nesterov`."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    ahead: optax.Updates  # like the parameters: momentum times its decay, the way to look ahead


@declare(elementwise=True)
def scale_by_true_nesterov(
    learning_rate: Annotated[optax.ScalarOrSchedule, "[0, inf)"],
    decay: Annotated[optax.ScalarOrSchedule, "[0, 1]"] = 0.9,
) -> optax.GradientTransformation:
    r"""Nesterov's momentum as the chapter writes it: the gradient is measured ahead.

    Measure each gradient at `nesterov_point(params, state)`, not at the parameters. The usual
    reformulation, `trace` with `nesterov`, walks over these points instead and needs no second
    place; at a constant decay both take the same path, seen from different points. As the momentum
    holds the learning rate, the update is a whole step: nothing is to be scaled afterwards.

    Equation:
        .. math::
            m_t &= \beta\, m_{t-1} - \eta\, \nabla J(\theta_{t-1} + \beta\, m_{t-1}) \\
            \theta_t &= \theta_{t-1} + m_t

        with :math:`\eta` = `learning_rate`, :math:`\beta` = `decay`, :math:`m_0 = 0`.

    Args:
        learning_rate: float in [0, inf), or a schedule of the step from 0.
        decay: float in [0, 1], or a schedule of the step from 0; the chapter's 0.9.

    Returns:
        An `optax.GradientTransformation`; its updates are whole steps.

    State:
        `ScaleByTrueNesterovState`: `count` (int32) and `ahead`, one array like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Yurii Nesterov (1983), A method for solving the convex programming problem with convergence
        rate O(1/k²). Chapter 11, "Nesterov Accelerated Gradient", equation 11-5.

    Use when: you want the method of the book or of a proof, to the letter.
    Avoid when: you only want its speed: `nesterov` has it at one place a step.

    Example:
        >>> import jax, jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.scale_by_true_nesterov(0.1), jnp.array([1.0])
        >>> state = tx.init(params)
        >>> for _ in range(2):
        ...     grad = jax.grad(lambda x: jnp.sum(x**2))(jc.nesterov_point(params, state))
        ...     updates, state = tx.update(grad, state)
        ...     params = jc.apply_updates(params, updates)
        >>> print(f"{params[0]:.3f}")
        0.496
    """

    def init(param):
        return jnp.zeros_like(param)

    def update(grad, ahead, param, step):
        momentum = ahead - value_at(learning_rate, step, grad) * grad
        return momentum, value_at(decay, step + 1, grad) * momentum

    return leafwise(init, update, ScaleByTrueNesterovState)


@declare
def nesterov_point(params: optax.Params, state: optax.OptState) -> optax.Params:
    r"""Where `scale_by_true_nesterov` wants the gradient measured.

    The parameters, moved along the momentum as far as the next step will carry them at least.

    Equation:
        .. math:: \theta + \beta\, m

    Args:
        params: the parameters.
        state: the state of `scale_by_true_nesterov`, or of a chain that has it once.

    Returns:
        A tree like `params`.

    State:
        None.

    Raises:
        ValueError: the state has none of `scale_by_true_nesterov`, or more than one.

    References:
        Yurii Nesterov (1983), A method for solving the convex programming problem with convergence
        rate O(1/k²). Chapter 11, "Nesterov Accelerated Gradient", equation 11-5.

    Use when: computing gradients for `scale_by_true_nesterov`.
    Avoid when: evaluating the model; do that at the parameters themselves.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.scale_by_true_nesterov(0.1, decay=0.5), jnp.array([1.0])
        >>> _, state = tx.update(jnp.array([2.0]), tx.init(params))
        >>> print(jc.nesterov_point(params, state))
        [0.9]
    """
    ahead = found_state(state, ScaleByTrueNesterovState).ahead
    return jax.tree.map(lambda param, step: param + step.astype(param.dtype), params, ahead)
