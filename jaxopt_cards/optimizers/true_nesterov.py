"""Nesterov's momentum with the gradient measured ahead."""

from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.leafwise import leafwise, value_at
from jaxopt_cards.core.states import found_states, merged_leaves
from jaxopt_cards.core.trees import is_hole


class ScaleByTrueNesterovState(NamedTuple):
    """State of `scale_by_true_nesterov`."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    ahead: optax.Updates  # like the parameters: momentum times its decay, how far to look ahead


@declare(elementwise=True, gradient_at="nesterov_point")
def scale_by_true_nesterov(
    learning_rate: Annotated[optax.ScalarOrSchedule, "[0, inf)"],
    decay: Annotated[optax.ScalarOrSchedule, "[0, 1]"] = 0.9,
) -> optax.GradientTransformation:
    r"""Nesterov's momentum as Géron writes it: the gradient is measured ahead of the parameters.

    Measure each gradient at `nesterov_point(params, state)`, not at the parameters: there it would
    be plain momentum. `fit`, `fit_many` and `fit_online` do so; the training loss and `value` are
    measured there, too. The usual reformulation, `trace` with `nesterov`, moves these points
    instead and needs no second place; with a constant decay both take the same path, seen from
    different points. The momentum contains the learning rate, so the update is a whole step and
    must not be scaled afterwards. (`plateau` in `fit` scales the step ahead as well.)

    Equation:
        .. math::
            m_t &= \beta\, m_{t-1} - \eta\, \nabla J(\theta_{t-1} + \beta\, m_{t-1}) \\
            \theta_t &= \theta_{t-1} + m_t

        with :math:`J` the loss, :math:`\theta_t` the parameters, :math:`m_t` the momentum,
        :math:`m_0 = 0`, :math:`\eta` = `learning_rate`, :math:`\beta` = `decay`.

    Args:
        learning_rate: as in `scale_by_learning_rate`.
        decay: decay of the momentum. Géron's 0.9. A schedule is called with the number of earlier
            updates.

    Returns:
        An `optax.GradientTransformation`; its updates are whole steps.

    State:
        `ScaleByTrueNesterovState`: `count` (int32) and `ahead`, one array for each parameter.

    References:
        Yurii Nesterov (1983), A method for solving the convex programming problem with convergence
        rate O(1/k²). Géron (2017), chapter 11, "Nesterov Accelerated Gradient", equation 11-5.

    Use when: you want exactly the method of the book or of a proof.
    Avoid when: you only want its speed: `nesterov` gives it with one set of parameters.

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
    r"""The point where `scale_by_true_nesterov` needs the gradient.

    The parameters plus the momentum times its decay.

    Equation:
        .. math:: \theta + \beta\, m

        with the symbols of `scale_by_true_nesterov`.

    Args:
        params: the parameters.
        state: the state of `scale_by_true_nesterov`, or of a chain, `masked` or `partition` that
            contains it once for each parameter.

    Returns:
        A tree like `params`. Parameters that others train are as they were.

    Raises:
        ValueError: the state has none of `scale_by_true_nesterov`, or more than one for a
            parameter; or it is that of a wrapper that stores it in codes, or in another structure.

    References:
        Yurii Nesterov (1983), A method for solving the convex programming problem with convergence
        rate O(1/k²). Géron (2017), chapter 11, "Nesterov Accelerated Gradient", equation 11-5.

    Use when: you compute gradients for `scale_by_true_nesterov`.
    Avoid when: you evaluate the model; use the parameters themselves.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.scale_by_true_nesterov(0.1, decay=0.5), jnp.array([1.0])
        >>> _, state = tx.update(jnp.array([2.0]), tx.init(params))
        >>> print(jc.nesterov_point(params, state))
        [0.9]
    """
    found = found_states(state, ScaleByTrueNesterovState)
    if not found:
        got = f"0 in {type(state).__name__}"
        raise NamedError(f"state must hold one ScaleByTrueNesterovState, got {got}")
    leaves, treedef = jax.tree.flatten(params)
    steps = merged_leaves(params, [each.ahead for each in found], "ScaleByTrueNesterovState")
    ahead = [p if is_hole(s) else p + s.astype(p.dtype) for p, s in zip(leaves, steps, strict=True)]
    return jax.tree.unflatten(treedef, ahead)
