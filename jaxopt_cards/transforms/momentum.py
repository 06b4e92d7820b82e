"""Momentum: the heavy ball, and Nesterov's reformulated."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards._checks import check_float_dtype, check_number
from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.transforms._leafwise import found_state, leafwise, value_at


class ScheduledTraceState(NamedTuple):
    """State of `trace` when its decay follows a schedule."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    trace: optax.Updates  # like the parameters


@named_in_errors
def trace(
    decay: jax.typing.ArrayLike | Callable[[Any], Any],
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Accumulates the gradients with decay: momentum, and Nesterov's form of it.

    Steps add up where gradients agree and cancel where they alternate, so narrow valleys are
    crossed faster. At a constant gradient the speed grows to 1 / (1 - decay) times the gradient.
    PyTorch's SGD is the same; Keras folds the learning rate into the accumulator.

    Equation:
        .. math::
            m_t &= g_t + \beta\, m_{t-1} \\
            u_t &= \begin{cases} m_t & \text{heavy ball} \\
                g_t + \beta\, m_t & \text{Nesterov} \end{cases}

        with :math:`\beta` = `decay`, :math:`m_0 = 0`.

    Args:
        decay: float in [0, 1], or a schedule of the step from 0 (momentum raised from 0.5 to 0.9
            after the start). 0.9 is the usual value.
        nesterov: bool; look ahead along the accumulated step.
        accumulator_dtype: dtype of the accumulator; default that of the parameters, float32 at
            least.

    Returns:
        An `optax.GradientTransformation`; updates keep shapes; see `leafwise` for dtypes.

    State:
        `optax.TraceState`: `trace`, one array like each parameter. With a schedule
        `ScheduledTraceState`, which also has `count`.

    Raises:
        ValueError: `decay` is a number outside [0, 1].

    References:
        Boris Polyak (1964), Some methods of speeding up the convergence of iteration methods.
        Yurii Nesterov (1983), A method for solving the convex programming problem with convergence
        rate O(1/k²). Ilya Sutskever et al. (2013), On the importance of initialization and momentum
        in deep learning. Chapter 11, "Momentum Optimization" and "Nesterov Accelerated Gradient".

    Use when: the surface is a narrow valley; nearly always with plain gradient descent.
    Avoid when: an adaptive stage such as `scale_by_adam` keeps a first moment already.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.trace(decay=0.9)
        >>> state = tx.init(jnp.zeros(1))
        >>> for _ in range(2):
        ...     updates, state = tx.update(jnp.ones(1), state)
        >>> print(updates)
        [1.9]
    """
    decay = check_number("trace", "decay", decay, "[0, 1]", or_schedule=True)
    check_float_dtype("trace", "accumulator_dtype", accumulator_dtype)

    def init(param):
        return jnp.zeros_like(param, dtype=accumulator_dtype)

    def update(grad, mean, param, step):
        beta = value_at(decay, step, grad)
        mean = grad + beta * mean
        return (grad + beta * mean if nesterov else mean), mean

    return leafwise(init, update, ScheduledTraceState if callable(decay) else optax.TraceState)


class ScaleByTrueNesterovState(NamedTuple):
    """State of `scale_by_true_nesterov`."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    ahead: optax.Updates  # like the parameters: momentum times its decay, the way to look ahead


@named_in_errors
def scale_by_true_nesterov(
    learning_rate: optax.ScalarOrSchedule, decay: jax.typing.ArrayLike | Callable[[Any], Any] = 0.9
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
    name = "scale_by_true_nesterov"
    learning_rate = check_number(name, "learning_rate", learning_rate, "[0, inf)", or_schedule=True)
    decay = check_number(name, "decay", decay, "[0, 1]", or_schedule=True)

    def init(param):
        return jnp.zeros_like(param)

    def update(grad, ahead, param, step):
        momentum = ahead - value_at(learning_rate, step, grad) * grad
        return momentum, value_at(decay, step + 1, grad) * momentum

    return leafwise(init, update, ScaleByTrueNesterovState)


@named_in_errors
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
    ahead = found_state("nesterov_point", state, ScaleByTrueNesterovState).ahead
    return jax.tree.map(lambda param, step: param + step.astype(param.dtype), params, ahead)
