"""Gradient descent, plain and with momentum."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import chain

from jaxopt_cards.core.checks import check_float_dtype, check_number
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise, value_at
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


class ScheduledTraceState(NamedTuple):
    """State of `trace` when its decay follows a schedule."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    trace: optax.Updates  # like the parameters


@declare(elementwise=True)
def trace(
    decay: Annotated[optax.ScalarOrSchedule, "[0, 1]"],
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
    check_float_dtype("accumulator_dtype", accumulator_dtype)

    def init(param):
        return jnp.zeros_like(param, dtype=accumulator_dtype)

    def update(grad, mean, param, step):
        beta = value_at(decay, step, grad)
        mean = grad + beta * mean
        return (grad + beta * mean if nesterov else mean), mean

    return leafwise(init, update, ScheduledTraceState if callable(decay) else optax.TraceState)


def momentum_stage(
    momentum: optax.ScalarOrSchedule | None, nesterov: bool, accumulator_dtype: Any
) -> optax.GradientTransformation:
    """The trace, or nothing; an error speaks of `momentum`, as the optimizers call its decay."""
    if momentum is None:
        return optax.identity()
    momentum = check_number("momentum", momentum, "[0, 1]", or_schedule=True)
    return trace(momentum, nesterov=nesterov, accumulator_dtype=accumulator_dtype)


@declare(elementwise=True)
def sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: optax.ScalarOrSchedule | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Gradient descent, with or without momentum.

    A step against the gradient of the batch at hand. Without momentum it keeps no state at all; the
    chain is then the learning rate alone.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, g_t

        with :math:`\eta` = `learning_rate`; with `momentum` as in `trace`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        momentum: float in [0, 1], a schedule, or `None` for none.
        nesterov: bool; Nesterov's momentum instead of the heavy ball.
        accumulator_dtype: dtype of the accumulator; default that of the parameters, float32 at
            least.

    Returns:
        An `optax.GradientTransformation`.

    State:
        With momentum `trace`, one array like each parameter; else none.

    Raises:
        ValueError: a number outside its range.

    References:
        Herbert Robbins, Sutton Monro (1951), A Stochastic Approximation Method. Chapter 11, "Faster
        Optimizers".

    Use when: as a baseline, or with momentum and a schedule for the last bit of accuracy.
    Avoid when: there is no time to tune the learning rate.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.sgd(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.8]
    """
    return chain(
        momentum_stage(momentum, nesterov, accumulator_dtype),
        scale_by_learning_rate(learning_rate),
    )


@declare(elementwise=True)
def momentum(
    learning_rate: optax.ScalarOrSchedule,
    momentum: optax.ScalarOrSchedule = 0.9,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Gradient descent with the heavy ball's momentum.

    The step is a decaying sum of the gradients so far. `sgd` with `momentum`, by its own name.

    Equation:
        .. math::
            m_t &= g_t + \beta\, m_{t-1} \\
            \theta_t &= \theta_{t-1} - \eta\, m_t

        with :math:`\eta` = `learning_rate`, :math:`\beta` = `momentum`, :math:`m_0 = 0`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        momentum: float in [0, 1], or a schedule; the chapter's 0.9.
        accumulator_dtype: dtype of the accumulator; default that of the parameters, float32 at
            least.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.TraceState`: `trace`, one array like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Boris Polyak (1964), Some methods of speeding up the convergence of iteration methods.
        Chapter 11, "Momentum Optimization".

    Use when: plain gradient descent zigzags through a valley.
    Avoid when: it overshoots; `nesterov` brakes earlier at the same cost.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.momentum(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.8]
    """
    return chain(
        momentum_stage(momentum, False, accumulator_dtype),
        scale_by_learning_rate(learning_rate),
    )


@declare(elementwise=True)
def nesterov(
    learning_rate: optax.ScalarOrSchedule,
    momentum: optax.ScalarOrSchedule = 0.9,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Gradient descent with Nesterov's momentum, in its usual reformulation.

    The step looks ahead along the momentum, so it brakes before the heavy ball would. `sgd` with
    `momentum` and `nesterov=True`, by its own name.

    Equation:
        .. math::
            m_t &= g_t + \beta\, m_{t-1} \\
            \theta_t &= \theta_{t-1} - \eta\, (g_t + \beta\, m_t)

        with :math:`\eta` = `learning_rate`, :math:`\beta` = `momentum`, :math:`m_0 = 0`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        momentum: float in [0, 1], or a schedule; the chapter's 0.9.
        accumulator_dtype: dtype of the accumulator; default that of the parameters, float32 at
            least.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.TraceState`: `trace`, one array like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Yurii Nesterov (1983), A method for solving the convex programming problem with convergence
        rate O(1/k²). Ilya Sutskever et al. (2013), On the importance of initialization and momentum
        in deep learning. Chapter 11, "Nesterov Accelerated Gradient".

    Use when: wherever `momentum` is used; it is nearly always faster.
    Avoid when: gradients are so noisy that looking ahead sees nothing.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.nesterov(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.62]
    """
    return chain(
        momentum_stage(momentum, True, accumulator_dtype),
        scale_by_learning_rate(learning_rate),
    )
