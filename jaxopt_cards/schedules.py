"""Schedules: functions from the number of earlier steps to a value."""

import itertools
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

# Re-exported from Optax, so that all schedules are in one place.
from optax import (
    cosine_decay_schedule,
    cosine_onecycle_schedule,
    join_schedules,
    linear_onecycle_schedule,
    linear_schedule,
    warmup_constant_schedule,
    warmup_cosine_decay_schedule,
)

from jaxopt_cards.core.checks import HyperparameterError, check_count, check_number
from jaxopt_cards.core.declaration import declare

__all__ = [
    "constant",
    "cosine_decay_schedule",
    "cosine_onecycle_schedule",
    "exponential_decay",
    "join_schedules",
    "linear_onecycle_schedule",
    "linear_schedule",
    "momentum_warmup",
    "piecewise_constant",
    "power_decay",
    "warmup_constant_schedule",
    "warmup_cosine_decay_schedule",
]


@declare
def constant(value: Annotated[ArrayLike, "(-inf, inf)"]) -> optax.Schedule:
    r"""The same value at every step.

    For code that expects a schedule where you have a number.

    Equation:
        .. math:: \eta(t) = \eta_0

        with :math:`\eta(t)` the value at step :math:`t`, :math:`\eta_0` = `value`.

    Args:
        value: the value.

    Returns:
        A schedule: a function from the step (int, from 0) to the value.

    References:
        Herbert Robbins, Sutton Monro (1951), A Stochastic Approximation Method.

    Use when: you compare schedules with a constant value.
    Avoid when: a float is enough.

    Example:
        >>> from jaxopt_cards import schedules
        >>> schedules.constant(0.1)(1000)
        0.1
    """
    return optax.constant_schedule(value)


@declare
def piecewise_constant(boundaries: Sequence[int], values: Sequence[ArrayLike]) -> optax.Schedule:
    r"""One value until the first boundary, another until the second, and so on.

    Takes the values themselves, as Keras and TensorFlow do; `optax.piecewise_constant_schedule`
    takes factors. The step of a boundary already has the next value, as in Optax; in Keras it has
    the previous one.

    Equation:
        .. math:: \eta(t) = v_i \quad\text{for } b_i \le t < b_{i+1}, \qquad b_0 = 0

        with :math:`\eta(t)` the value at step :math:`t`, :math:`v_0, v_1, \dots` = `values` and
        :math:`b_1, b_2, \dots` = `boundaries`.

    Args:
        boundaries: steps at which the value changes: strictly increasing ints > 0.
        values: floats, one more than there are boundaries.

    Returns:
        A schedule: a function from the step (int, from 0) to the value.

    Raises:
        ValueError: boundaries that do not increase, or another number of values.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Learning Rate Scheduling": predetermined piecewise constant learning rate.

    Use when: you know from a first run when learning stalls.
    Avoid when: you do not; exponential decay needs less tuning.

    Example:
        >>> from jaxopt_cards import schedules
        >>> schedule = schedules.piecewise_constant([50], [0.1, 0.01])
        >>> print(schedule(49), schedule(50))
        0.1 0.01
    """
    steps = list(boundaries)
    for step in steps:
        check_count("each of boundaries", step)
    known = not any(isinstance(step, jax.core.Tracer) for step in steps)
    if known and any(later <= earlier for earlier, later in itertools.pairwise(steps)):
        raise HyperparameterError("boundaries", "increase", steps)
    if len(values) != len(steps) + 1:
        raise HyperparameterError("values", f"have {len(steps) + 1} entries", list(values))
    for value in values:
        check_number("each of values", value, "(-inf, inf)")

    def schedule(count: Any) -> jax.Array:
        passed = jnp.sum(jnp.asarray(steps, jnp.result_type(count)) <= count, dtype=jnp.int32)
        return jnp.stack([jnp.asarray(value, float) for value in values])[passed]

    return schedule


@declare
def exponential_decay(
    init_value: Annotated[ArrayLike, "(-inf, inf)"],
    transition_steps: Annotated[ArrayLike, "(0, inf]"],
    decay_rate: Annotated[ArrayLike, "[0, inf)"],
    transition_begin: Annotated[ArrayLike, "[0, inf)"] = 0,
    staircase: bool = False,
    end_value: Annotated[ArrayLike, "(-inf, inf)"] | None = None,
) -> optax.Schedule:
    r"""Multiplies the value by `decay_rate` every `transition_steps` steps, smoothly.

    Optax's schedule, also with traced values. Where Optax logs a message and returns a constant for
    `transition_steps` of 0 or less, this raises an error.

    Equation:
        .. math:: \eta(t) = \eta_0 \, \gamma^{(t - b) / r} \quad\text{for } t > b, \text{ else }
            \eta_0

        with :math:`\eta(t)` the value at step :math:`t`, :math:`\eta_0` = `init_value`, :math:`r` =
        `transition_steps`, :math:`\gamma` = `decay_rate`, :math:`b` = `transition_begin`; with
        `staircase`, the exponent is rounded down.

    Args:
        init_value: the first value.
        transition_steps: steps in which the value falls by `decay_rate`.
        decay_rate: factor of the value. Géron uses 0.1. As in Optax, 0 means no decay.
        transition_begin: number of steps before the decay starts.
        staircase: whether to decay in jumps.
        end_value: bound of the value. Default: no bound.

    Returns:
        A schedule: a function from the step (int, from 0) to the value.

    References:
        Andrew Senior et al. (2013), An empirical study of learning rates in deep neural networks
        for speech recognition. Géron (2017), chapter 11, "Learning Rate Scheduling": exponential
        scheduling.

    Use when: you want a schedule with one number to tune.
    Avoid when: the number of steps is known: a cosine schedule then ends at exactly zero.

    Example:
        >>> from jaxopt_cards import schedules
        >>> schedule = schedules.exponential_decay(0.1, transition_steps=10, decay_rate=0.1)
        >>> print(f"{schedule(0):.3f} {schedule(10):.3f}")
        0.100 0.010
    """

    def schedule(count: Any) -> Any:
        rate = jnp.asarray(decay_rate, float)
        begin, steps = jnp.asarray(transition_begin, float), jnp.asarray(transition_steps, float)
        periods = jnp.maximum(jnp.asarray(count, float) - begin, 0.0) / steps
        factor = rate ** (jnp.floor(periods) if staircase else periods)
        value = init_value * jnp.where(rate == 0, 1.0, factor)
        if end_value is None:
            return value
        bound = jnp.asarray(end_value, value.dtype)
        ended = jnp.where(rate < 1, jnp.maximum(value, bound), jnp.minimum(value, bound))
        return jnp.where(rate == 0, value, ended)

    return schedule


@declare
def power_decay(
    init_value: Annotated[ArrayLike, "(-inf, inf)"],
    transition_steps: Annotated[int, "[1, inf)"],
    power: Annotated[ArrayLike, "[0, inf)"] = 1.0,
) -> optax.Schedule:
    r"""Divides the value by a power of the time passed.

    It falls fast at first and then ever more slowly; in the end slower than exponential decay. With
    `power` 1 the value is halved after `transition_steps`, and a third after twice as many.

    Equation:
        .. math:: \eta(t) = \eta_0 \left(1 + \frac{t}{r}\right)^{-c}

        with :math:`\eta(t)` the value at step :math:`t`, :math:`\eta_0` = `init_value`, :math:`r` =
        `transition_steps`, :math:`c` = `power`.

    Args:
        init_value: the first value.
        transition_steps: the time scale.
        power: the exponent; usually 1, as in Géron's book.

    Returns:
        A schedule: a function from the step (int, from 0) to the value.

    References:
        Andrew Senior et al. (2013), An empirical study of learning rates in deep neural networks
        for speech recognition. Géron (2017), chapter 11, "Learning Rate Scheduling": power
        scheduling.

    Use when: training has no fixed end, as on a stream.
    Avoid when: it has a fixed end: exponential and cosine decay reach lower values in the same
        time.

    Example:
        >>> from jaxopt_cards import schedules
        >>> schedule = schedules.power_decay(0.1, transition_steps=10)
        >>> print(schedule(0), schedule(10))
        0.1 0.05
    """

    def schedule(count: Any) -> Any:
        return init_value / (1 + count / transition_steps) ** power

    return schedule


@declare
def momentum_warmup(
    init_value: Annotated[ArrayLike, "[0, 1]"] = 0.5,
    end_value: Annotated[ArrayLike, "[0, 1]"] = 0.9,
    transition_steps: Annotated[int, "[1, inf)"] = 1000,
) -> optax.Schedule:
    r"""Raises the momentum linearly from a low value to a high one.

    At first gradients change direction quickly, and high momentum would move the parameters too
    far; later it moves them along the valley. For `trace`, `momentum`, `nesterov` and the other
    optimizers with momentum.

    Equation:
        .. math:: \beta(t) = \beta_0 + (\beta_1 - \beta_0) \min\left(\frac{t}{r}, 1\right)

        with :math:`\beta(t)` the momentum at step :math:`t`, :math:`\beta_0` = `init_value`,
        :math:`\beta_1` = `end_value`, :math:`r` = `transition_steps`.

    Args:
        init_value: the momentum at first.
        end_value: the momentum after `transition_steps`.
        transition_steps: number of steps in which it rises.

    Returns:
        A schedule: a function from the step (int, from 0) to the value.

    References:
        Geoffrey Hinton (2012), A Practical Guide to Training Restricted Boltzmann Machines. Ilya
        Sutskever et al. (2013), On the importance of initialization and momentum in deep learning.

    Use when: training with high momentum is wanted but diverges at the start.
    Avoid when: training starts well with the high value.

    Example:
        >>> import jaxopt_cards as jc
        >>> schedule = jc.schedules.momentum_warmup(0.5, 0.9, transition_steps=100)
        >>> print(f"{schedule(0):.1f} {schedule(50):.1f} {schedule(200):.1f}")
        0.5 0.7 0.9
        >>> tx = jc.nesterov(0.1, momentum=schedule)
    """
    return optax.linear_schedule(init_value, end_value, transition_steps)
