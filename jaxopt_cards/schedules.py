"""Schedules: functions from the number of earlier steps to a value."""

import itertools
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

# Optax's own, where people will look for them
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

    The schedule that is none: for code that wants a schedule where a number would do.

    Equation:
        .. math:: \eta(t) = \eta_0

    Args:
        value: float; the value :math:`\eta_0`.

    Returns:
        A schedule: a function from the step (int, from 0) to the value.

    Raises:
        ValueError: `value` is not a finite number.

    References:
        Herbert Robbins, Sutton Monro (1951), A Stochastic Approximation Method.

    Use when: you compare schedules with none.
    Avoid when: a float would do.

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
    takes factors instead. A boundary's step itself has the next value already, as in Optax (in
    Keras it still has the former).

    Equation:
        .. math:: \eta(t) = v_i \quad\text{for } b_i \le t < b_{i+1}, \qquad b_0 = 0

        with :math:`v` = `values` and :math:`b_1, b_2, \dots` = `boundaries`.

    Args:
        boundaries: whole numbers > 0, strictly increasing: steps at which the value changes.
        values: one float more than there are boundaries.

    Returns:
        A schedule: a function from the step (int, from 0) to the value.

    Raises:
        ValueError: boundaries not increasing, or a number of values other than one more.

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
    end_value: ArrayLike | None = None,
) -> optax.Schedule:
    r"""Multiplies the value by `decay_rate` every `transition_steps` steps, smoothly.

    Optax's, and with traced values allowed. Where Optax turns a schedule of no or negative length
    into a constant, with a line in its log, this refuses it.

    Equation:
        .. math:: \eta(t) = \eta_0 \, \gamma^{(t - b) / r} \quad\text{for } t > b, \text{ else }
            \eta_0

        with :math:`\eta_0` = `init_value`, :math:`r` = `transition_steps`, :math:`\gamma` =
        `decay_rate`, :math:`b` = `transition_begin`; rounded down in the exponent if `staircase`.

    Args:
        init_value: float; the first value.
        transition_steps: float in (0, inf]; steps in which the value falls by `decay_rate`.
        decay_rate: float in [0, inf); the chapter takes 0.1. As in Optax, 0 means no decay.
        transition_begin: float in [0, inf); steps before the decay starts.
        staircase: bool; decay in jumps.
        end_value: float; the value beyond which the decay does not go. Default: no bound.

    Returns:
        A schedule: a function from the step (int, from 0) to the value.

    Raises:
        ValueError: an argument outside its range.

    References:
        Andrew Senior et al. (2013), An empirical study of learning rates in deep neural networks
        for speech recognition. Chapter 11, "Learning Rate Scheduling": exponential scheduling.

    Use when: you want a schedule with one number to tune.
    Avoid when: the number of steps is known: a cosine ends at zero exactly then.

    Example:
        >>> from jaxopt_cards import schedules
        >>> schedule = schedules.exponential_decay(0.1, transition_steps=10, decay_rate=0.1)
        >>> print(f"{schedule(0):.3f} {schedule(10):.3f}")
        0.100 0.010
    """
    if end_value is not None:
        end_value = check_number("end_value", end_value, "(-inf, inf)")

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

    Falls fast at first, then ever more slowly: slower than exponential decay in the end. With
    `power` 1 the value is halved after `transition_steps`, a third after twice as many.

    Equation:
        .. math:: \eta(t) = \eta_0 \left(1 + \frac{t}{r}\right)^{-c}

        with :math:`\eta_0` = `init_value`, :math:`r` = `transition_steps`, :math:`c` = `power`.

    Args:
        init_value: float; the first value.
        transition_steps: whole number > 0; the time scale.
        power: float in [0, inf); usually 1, the chapter's.

    Returns:
        A schedule: a function from the step (int, from 0) to the value.

    Raises:
        ValueError: an argument outside its range.

    References:
        Andrew Senior et al. (2013), An empirical study of learning rates in deep neural networks
        for speech recognition. Chapter 11, "Learning Rate Scheduling": power scheduling.

    Use when: training has no set end, as on a stream.
    Avoid when: it has: exponential and cosine decay get lower in the same time.

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
    r"""Raises the momentum from a low value to a high one, in a straight line.

    At first gradients change direction quickly and a long memory would only carry the step
    astray; later it carries it along the valley. For `trace`, `momentum`, `nesterov` and the other
    optimizers with a momentum.

    Equation:
        .. math:: \beta(t) = \beta_0 + (\beta_1 - \beta_0) \min\left(\frac{t}{r}, 1\right)

        with :math:`\beta_0` = `init_value`, :math:`\beta_1` = `end_value`, :math:`r` =
        `transition_steps`.

    Args:
        init_value: float in [0, 1]; the momentum at first.
        end_value: float in [0, 1]; the momentum after `transition_steps`.
        transition_steps: whole number > 0; steps in which it rises.

    Returns:
        A schedule: a function from the step (int, from 0) to the value.

    Raises:
        ValueError: an argument outside its range.

    References:
        Geoffrey Hinton (2012), A Practical Guide to Training Restricted Boltzmann Machines. Ilya
        Sutskever et al. (2013), On the importance of initialization and momentum in deep learning.

    Use when: high momentum is wanted but diverges at the start.
    Avoid when: training starts well with the high value.

    Example:
        >>> import jaxopt_cards as jc
        >>> schedule = jc.schedules.momentum_warmup(0.5, 0.9, transition_steps=100)
        >>> print(f"{schedule(0):.1f} {schedule(50):.1f} {schedule(200):.1f}")
        0.5 0.7 0.9
        >>> tx = jc.nesterov(0.1, momentum=schedule)
    """
    return optax.linear_schedule(init_value, end_value, transition_steps)
