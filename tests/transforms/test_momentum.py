"""True Nesterov against the chapter's equation, and against its reformulation."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_cards as jc


def loss(x):
    return jnp.sum(jnp.array([1.0, 3.0]) * x**2) + jnp.sin(x[0])


def gradient(x):
    return np.array([2.0, 6.0]) * x + np.array([np.cos(x[0]), 0.0])


@pytest.mark.parametrize(
    "beta", [lambda t: 0.9, lambda t: 0.5 + 0.01 * np.float64(t)], ids=["constant", "rising"]
)
def test_true_nesterov_equals_the_chapters_equation(beta, x64):
    theta, m = np.array([2.0, -1.0]), np.zeros(2)
    tx = jc.scale_by_true_nesterov(0.05, decay=lambda t: 0.9 if beta(0) == 0.9 else 0.5 + 0.01 * t)
    params = jnp.asarray(theta)
    state = tx.init(params)
    for t in range(50):
        m = beta(t) * m - 0.05 * gradient(theta + beta(t) * m)
        theta = theta + m
        with jax.numpy_dtype_promotion("standard"):  # the schedule above is float times int
            grad = jax.grad(loss)(jc.nesterov_point(params, state))
            updates, state = tx.update(grad, state)
        params = jc.apply_updates(params, updates)
    np.testing.assert_allclose(params, theta, rtol=1e-12, atol=1e-12)


def test_the_reformulation_walks_over_the_points_where_true_nesterov_measures(x64):
    true, usual = jc.chain(jc.scale_by_true_nesterov(0.05)), jc.nesterov(0.05)
    params = points = jnp.array([2.0, -1.0])
    true_state, usual_state = true.init(params), usual.init(points)
    for _ in range(50):
        ahead = jc.nesterov_point(params, true_state)
        np.testing.assert_allclose(points, ahead, rtol=1e-12, atol=1e-12)
        updates, true_state = true.update(jax.grad(loss)(ahead), true_state)
        params = jc.apply_updates(params, updates)
        updates, usual_state = usual.update(jax.grad(loss)(points), usual_state)
        points = jc.apply_updates(points, updates)


def test_nesterov_point_wants_one_state():
    params = jnp.ones(2)
    with pytest.raises(ValueError, match="nesterov_point: state must hold one ScaleByTrueNest"):
        jc.nesterov_point(params, jc.sgd(0.1).init(params))


def test_momentum_warmup_in_nesterov():
    schedule = jc.schedules.momentum_warmup(0.5, 0.9, 2)
    tx = jc.nesterov(1.0, momentum=schedule)
    state, m = tx.init(jnp.zeros(1)), 0.0
    for beta in (0.5, 0.7, 0.9, 0.9):
        m = 1.0 + beta * m
        updates, state = tx.update(jnp.ones(1), state)
        chex.assert_trees_all_close(updates, -jnp.array([1.0 + beta * m]), rtol=1e-6)
