"""Momentum: the heavy ball, and Nesterov's reformulated."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards._checks import check_number
from jaxopt_cards.transforms._leafwise import leafwise


class ScheduledTraceState(NamedTuple):
    """State of `trace` when its decay follows a schedule."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    trace: optax.Updates  # like the parameters


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
        An `optax.GradientTransformation`; updates keep shapes and dtypes.

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
    check_number("trace", "decay", decay, "[0, 1]", or_schedule=True)

    def init(param):
        return jnp.zeros_like(param, dtype=accumulator_dtype)

    def update(grad, mean, param, step):
        beta = jnp.asarray(decay(step - 1), grad.real.dtype) if callable(decay) else decay
        mean = grad + beta * mean
        return (grad + beta * mean if nesterov else mean), mean

    return leafwise(init, update, ScheduledTraceState if callable(decay) else optax.TraceState)
