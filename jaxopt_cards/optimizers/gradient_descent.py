"""Gradient descent, plain and with momentum."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from optax import chain

from jaxopt_cards.core.checks import check_float_dtype
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
    r"""Accumulates the gradients with decay: momentum, also in Nesterov's form.

    Steps add up where gradients agree and cancel where they alternate, so the optimizer moves
    faster along narrow valleys. At a constant gradient the step grows to 1 / (1 - decay) times the
    gradient. PyTorch's SGD computes the same. Keras multiplies by the learning rate before it
    accumulates.

    Equation:
        .. math::
            m_t &= g_t + \beta\, m_{t-1} \\
            u_t &= \begin{cases} m_t & \text{heavy ball} \\
                g_t + \beta\, m_t & \text{Nesterov} \end{cases}

        with :math:`g_t` the gradient, :math:`u_t` the update, :math:`m_t` the momentum, :math:`m_0
        = 0`, :math:`\beta` = `decay`.

    Args:
        decay: decay of the momentum. 0.9 is usual. A schedule is called with the number of earlier
            updates; it may raise the momentum from 0.5 to 0.9 after the start.
        nesterov: whether to look ahead along the accumulated step.
        accumulator_dtype: dtype of the accumulator. Default: that of the parameters, at least
            float32.

    State:
        `optax.TraceState`: `trace`, one array for each parameter. With a schedule
        `ScheduledTraceState`, which also has `count`.

    References:
        Boris Polyak (1964), Some methods of speeding up the convergence of iteration methods. Yurii
        Nesterov (1983), A method for solving the convex programming problem with convergence rate
        O(1/k²). Ilya Sutskever et al. (2013), On the importance of initialization and momentum in
        deep learning. Géron (2017), chapter 11, "Momentum Optimization" and "Nesterov Accelerated
        Gradient".

    Use when: the surface is a narrow valley; nearly always with plain gradient descent.
    Avoid when: an adaptive stage such as `scale_by_adam` already keeps a first moment.

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
    """`trace`, or the identity without momentum."""
    if momentum is None:
        return optax.identity()
    return trace(momentum, nesterov=nesterov, accumulator_dtype=accumulator_dtype)


@declare(elementwise=True)
def sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: Annotated[optax.ScalarOrSchedule, "[0, 1]"] | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Gradient descent, with or without momentum.

    A step against the gradient of the current batch. Without momentum it keeps no state, and the
    chain is the learning rate alone.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, g_t

        with :math:`\theta_t` the parameters, :math:`g_t` the gradient, :math:`\eta` =
        `learning_rate`; with `momentum`, :math:`u_t` as in `trace` replaces :math:`g_t`.

    Args:
        learning_rate: as in `scale_by_learning_rate`.
        momentum: decay of the momentum, as `decay` in `trace`. Default: no momentum.
        nesterov, accumulator_dtype: as in `trace`.

    State:
        With momentum `trace`, one array for each parameter; otherwise none.

    References:
        Herbert Robbins, Sutton Monro (1951), A Stochastic Approximation Method. Géron (2017),
        chapter 11, "Faster Optimizers".

    Use when: as a baseline, or with momentum and a schedule for the best final accuracy.
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
    momentum: Annotated[optax.ScalarOrSchedule, "[0, 1]"] | None = 0.9,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Gradient descent with momentum: the heavy-ball method.

    The step is a decaying sum of the gradients so far. The same as `sgd` with `momentum`.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, m_t

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate` and :math:`m_t` as in
        `trace`.

    Args:
        learning_rate: as in `scale_by_learning_rate`.
        momentum: decay of the momentum, as `decay` in `trace`. Géron's 0.9.
        accumulator_dtype: as in `trace`.

    State:
        As in `trace`.

    References:
        Boris Polyak (1964), Some methods of speeding up the convergence of iteration methods. Géron
        (2017), chapter 11, "Momentum Optimization".

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
    momentum: Annotated[optax.ScalarOrSchedule, "[0, 1]"] | None = 0.9,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Gradient descent with Nesterov's momentum, in its usual reformulation.

    The step looks ahead along the momentum, so it brakes earlier than plain momentum. The same as
    `sgd` with `momentum` and `nesterov=True`.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, (g_t + \beta\, m_t)

        with :math:`\theta_t` the parameters, :math:`\eta` = `learning_rate`, and :math:`\beta` =
        `momentum`, :math:`m_t` as in `trace`.

    Args:
        learning_rate: as in `scale_by_learning_rate`.
        momentum: decay of the momentum, as `decay` in `trace`. Géron's 0.9.
        accumulator_dtype: as in `trace`.

    State:
        As in `trace`.

    References:
        Yurii Nesterov (1983), A method for solving the convex programming problem with convergence
        rate O(1/k²). Ilya Sutskever et al. (2013), On the importance of initialization and momentum
        in deep learning. Géron (2017), chapter 11, "Nesterov Accelerated Gradient".

    Use when: you would use `momentum`; this is often a little faster.
    Avoid when: gradients are so noisy that looking ahead does not help.

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
