"""Schedules against their formulas, and against Optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_cards import schedules

STEPS = np.arange(40)


def values(schedule):
    """Inside a compiled loop, where schedules live."""
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.asarray(STEPS)))


def test_constant():
    assert schedules.constant(0.1)(7) == 0.1


def test_piecewise_constant():
    got = values(schedules.piecewise_constant([10, 30], [1.0, 0.1, 0.5]))
    np.testing.assert_allclose(got, np.select([STEPS < 10, STEPS < 30], [1.0, 0.1], 0.5))


def test_piecewise_constant_is_optaxs_with_values_for_factors():
    theirs = optax.piecewise_constant_schedule(1.0, {10: 0.1, 30: 5.0})
    ours = schedules.piecewise_constant([10, 30], [1.0, 0.1, 0.5])
    with jax.numpy_dtype_promotion("standard"):
        np.testing.assert_allclose(values(ours), values(theirs), rtol=1e-6)


@pytest.mark.parametrize("staircase", [False, True])
def test_exponential_decay(staircase):
    schedule = schedules.exponential_decay(0.1, 7, 0.5, transition_begin=3, staircase=staircase)
    exponent = np.maximum(STEPS - 3, 0) / 7
    expected = 0.1 * 0.5 ** (np.floor(exponent) if staircase else exponent)
    np.testing.assert_allclose(values(schedule), expected, rtol=1e-5)


def test_exponential_decay_stops_at_its_end_value():
    schedule = schedules.exponential_decay(1.0, 2, 0.5, end_value=0.1)
    assert values(schedule).min() == pytest.approx(0.1)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_power_decay(power):
    expected = 0.1 * (1 + STEPS / 7) ** -power
    np.testing.assert_allclose(values(schedules.power_decay(0.1, 7, power)), expected, rtol=1e-5)


def test_values_may_be_traced():
    rates = jnp.array([0.1, 0.2])
    got = jax.vmap(lambda rate: schedules.exponential_decay(rate, 10, 0.1)(10))(rates)
    np.testing.assert_allclose(got, [0.01, 0.02], rtol=1e-5)
    got = jax.vmap(lambda rate: schedules.piecewise_constant([5], [rate, 0.0])(1))(rates)
    np.testing.assert_allclose(got, rates)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.constant("fast"), r"constant: value must be a number in .*, got 'fast'"),
        (lambda: schedules.constant(float("nan")), r"constant: value must lie in"),
        (lambda: schedules.piecewise_constant([5], [0.1]), r"values must have 2 entries, got \[0"),
        (lambda: schedules.piecewise_constant([5, 5], [1, 2, 3]), r"boundaries must increase, got"),
        (
            lambda: schedules.piecewise_constant([0.5], [1, 2]),
            r"each of boundaries must be a whole",
        ),
        (
            lambda: schedules.exponential_decay(0.1, 0, 0.5),
            r"transition_steps must lie in \(0, inf\], got 0",
        ),
        (
            lambda: schedules.exponential_decay(0.1, 5, -0.1),
            r"decay_rate must lie in \[0, inf\), got",
        ),
        (
            lambda: schedules.exponential_decay(0.1, 5, 0.5, -1),
            r"transition_begin must lie in",
        ),
        (lambda: schedules.power_decay(0.1, -5), r"power_decay: transition_steps must be a whole"),
        (lambda: schedules.power_decay(0.1, 5, -1.0), r"power must lie in \[0, inf\), got -1.0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_power_of_a_half_divides_by_the_root_of_the_step():
    """As the card of `scale_by_adabound` uses it."""
    schedule, steps = schedules.power_decay(0.1, 1, 0.5), np.arange(5)
    np.testing.assert_allclose([schedule(t) for t in steps], 0.1 / np.sqrt(steps + 1), rtol=1e-6)
