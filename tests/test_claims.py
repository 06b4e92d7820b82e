"""Claims of Géron's chapter 11 that small examples decide."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_cards as jc
from jaxopt_cards import layers, schedules


def path(tx, surface, start, steps=200):
    """The points that an optimizer visits on a surface."""
    descend = jax.grad(surface)

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(descend(params), state, params)
        return (jc.apply_updates(params, updates), state), params

    start = jnp.array(start)
    return np.asarray(jax.lax.scan(step, (start, tx.init(start)), length=steps)[1])


def ravine(point):
    """Curvatures 1 and 100, as inputs of different scales give them."""
    return 0.5 * (point[0] ** 2 + 100.0 * point[1] ** 2)


def in_the_ravine(tx, steps=200):
    return path(tx, ravine, (-1.8, 0.35), steps)


def plateau(x):
    """A slope of 0.01 as far as -1, and a valley behind it."""
    return jnp.sum(0.01 * x + jnp.where(x < -1, 5.0 * (x + 1) ** 2, 0.0))


def waves(x):
    """A bowl with several minima."""
    return jnp.sum(0.1 * x**2 + 0.3 * jnp.sin(2.0 * x))


def test_a_saturated_logistic_unit_has_hardly_a_slope():
    slope = jax.grad(jax.nn.sigmoid)
    assert slope(0.0) == 0.25
    assert max(slope(-6.0), slope(6.0)) < 0.01


def test_xavier_of_a_square_layer():
    key = jax.random.key(0)
    normal, uniform = (
        init(key, (400, 400)) for init in (layers.glorot_normal, layers.glorot_uniform)
    )
    assert float(normal.std()) == pytest.approx(1 / 400**0.5, rel=0.01)
    assert float(jnp.abs(uniform).max()) == pytest.approx((3 / 400) ** 0.5, rel=0.01)


@pytest.mark.parametrize(("beta", "times"), [(0.5, 2), (0.9, 10)])
def test_momentum_reaches_ten_times_the_speed(beta, times):
    tx, gradient = jc.momentum(0.1, beta), jnp.ones(1)
    state = tx.init(gradient)
    for _ in range(200):
        updates, state = tx.update(gradient, state)
    np.testing.assert_allclose(updates, -0.1 * times * gradient, rtol=1e-5)


def test_momentum_leaves_a_plateau_sooner():
    paths = [path(tx, plateau, (0.0,), 2000) for tx in (jc.momentum(0.1), jc.sgd(0.1))]
    steps = [int(np.argmax(points < -1)) for points in paths]
    assert 0 < steps[0] < steps[1] / 5


def test_momentum_is_faster_in_a_ravine():
    ends = [np.abs(in_the_ravine(make(0.01))[-1]).max() for make in (jc.momentum, jc.sgd)]
    assert ends[0] < ends[1] / 100


def test_momentum_rolls_past_a_local_minimum():
    ends = [path(tx, waves, (6.0,), 500)[-1] for tx in (jc.momentum(0.1), jc.sgd(0.1))]
    assert waves(ends[0]) < waves(ends[1]) - 0.1
    assert np.abs(jax.grad(waves)(jnp.array(ends))).max() < 1e-3


def test_friction_damps_oscillations():
    across = [in_the_ravine(jc.momentum(1e-3, beta))[:, 1] for beta in (0.5, 0.95)]
    crossings = [np.sum(np.diff(np.sign(each)) != 0) for each in across]
    assert crossings[0] < crossings[1]
    assert np.abs(across[0][-50:]).max() < 0.01 * np.abs(across[1][-50:]).max()


def test_nesterov_oscillates_less():
    late = [np.abs(in_the_ravine(make(5e-3))[50:, 1]).max() for make in (jc.nesterov, jc.momentum)]
    assert late[0] < late[1] / 10


def test_adagrad_points_to_the_optimum():
    def cosine(tx):
        first, second = in_the_ravine(tx, 2)
        step = second - first
        return float(step @ -first / np.linalg.norm(step) / np.linalg.norm(first))

    assert cosine(jc.adagrad(0.1, 0.0)) > 2 * cosine(jc.sgd(0.1))


def test_adams_means_are_not_biased_towards_zero():
    tx, gradient = jc.scale_by_adam(), jnp.full(1, 0.3)
    state = tx.init(gradient)
    for _ in range(3):
        updates, state = tx.update(gradient, state)
        np.testing.assert_allclose(updates, 1.0, rtol=1e-4)
    assert float(state.mu[0]) < 0.1


def test_power_schedules_fall_more_slowly():
    power, exponential = (
        schedules.power_decay(0.1, 100),
        schedules.exponential_decay(0.1, 100, 0.1),
    )
    for step in (10, 100, 1000):
        assert power(step) > exponential(step)
