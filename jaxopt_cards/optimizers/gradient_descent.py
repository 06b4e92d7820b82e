"""Gradient descent, plain and with momentum."""

from typing import Any

import optax
from optax import chain

from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.optimizers._momentum import momentum_stage
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


@named_in_errors
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


@named_in_errors
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


@named_in_errors
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
