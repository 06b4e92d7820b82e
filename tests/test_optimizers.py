"""Bad hyperparameters, one by one: the error names the function that was called."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_cards as jc

RATED = ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "scale_by_learning_rate"]


@pytest.mark.parametrize("name", RATED)
@pytest.mark.parametrize(
    "rate", [-0.1, float("nan"), float("inf"), np.array(-1.0), jnp.array(-1.0)]
)
def test_learning_rates_out_of_range(name, rate):
    with pytest.raises(ValueError, match=rf"^{name}: learning_rate must lie in \[0, inf\), got"):
        getattr(jc, name)(rate)


@pytest.mark.parametrize("name", RATED)
@pytest.mark.parametrize("rate", [None, "fast", True, 1j])
def test_learning_rates_that_are_no_numbers(name, rate):
    with pytest.raises(ValueError, match=rf"^{name}: learning_rate must be a number or a schedule"):
        getattr(jc, name)(rate)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jc.adam(0.1, b1=1.5), r"adam: b1 must lie in \[0, 1\), got 1.5"),
        (lambda: jc.adam(0.1, b1=1), r"adam: b1 must lie in \[0, 1\), got 1"),
        (lambda: jc.adamw(0.1, b2=-0.1), r"adamw: b2 must lie in \[0, 1\), got -0.1"),
        (
            lambda: jc.adamw(0.1, weight_decay=np.inf),
            r"adamw: weight_decay must lie in \(-inf",
        ),
        (lambda: jc.adam(0.1, eps=-1e-8), r"adam: eps must lie in \(0, inf\), got -1e-08"),
        (lambda: jc.adam(0.1, eps_root=-1), r"adam: eps_root must lie in \[0, inf\), got -1"),
        (lambda: jc.rmsprop(0.1, decay=1.0), r"rmsprop: decay must lie in \[0, 1\), got 1.0"),
        (lambda: jc.rmsprop(0.1, eps=-1), r"rmsprop: eps must lie in \(0, inf\)"),
        (lambda: jc.adam(0.1, eps=0.0), r"adam: eps must lie in \(0, inf\), got 0.0"),
        (lambda: jc.sgd([0.1]), r"sgd: learning_rate must be a number or a schedule"),
        (lambda: jc.rmsprop(0.1, initial_scale=-1), r"rmsprop: initial_scale must lie in"),
        (lambda: jc.rmsprop(0.1, centered=True, decay=2), r"rmsprop: decay must lie in"),
        (lambda: jc.sgd(0.1, momentum=1.1), r"sgd: momentum must lie in \[0, 1\], got 1.1"),
        (lambda: jc.momentum(0.1, 2.0), r"momentum: momentum must lie in \[0, 1\], got 2.0"),
        (lambda: jc.rmsprop(0.1, momentum=-1), r"rmsprop: momentum must lie in \[0, 1\], got -1"),
        (lambda: jc.trace(decay="0.9"), r"trace: decay must be a number or a schedule in \[0, 1\]"),
        (lambda: jc.clip(0.0), r"clip: max_delta must lie in \(0, inf\], got 0.0"),
        (
            lambda: jc.clip_by_global_norm(-1),
            r"clip_by_global_norm: max_norm must lie in \(0, inf\]",
        ),
        (
            lambda: jc.add_decayed_weights(1j),
            r"add_decayed_weights: weight_decay must be",
        ),
    ],
)
def test_numbers_out_of_range(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


@pytest.mark.parametrize("rate", [0, 0.0, 1, np.float32(0.1), jnp.array(0.1), lambda step: 0.1])
def test_learning_rates_of_every_kind(rate):
    tx = jc.sgd(rate)
    tx.update(jnp.ones(2), tx.init(jnp.ones(2)))


def test_momentum_may_follow_a_schedule():
    tx = jc.sgd(1.0, momentum=lambda step: jnp.where(step < 1, 0.5, 0.9))
    state = tx.init(jnp.zeros(1))
    seen = []
    for _ in range(3):
        updates, state = tx.update(jnp.ones(1), state)
        seen.append(float(-updates[0]))
    m1 = 1.0
    m2 = 1.0 + 0.9 * m1
    assert seen == pytest.approx([m1, m2, 1.0 + 0.9 * m2])


def test_weight_decay_may_follow_a_schedule():
    tx = jc.add_decayed_weights(lambda step: jnp.array([0.1, 0.2])[step])
    params = jnp.ones(1)
    state = tx.init(params)
    for expected in (0.1, 0.2):
        updates, state = tx.update(jnp.zeros(1), state, params)
        np.testing.assert_allclose(updates, [expected], rtol=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"learning_rate": 0.5},
        {"memory_size": 2},
        {"scale_init_precond": False},
        {"learning_rate": 0.01, "linesearch": None},
    ],
)
def test_lbfgs_is_optaxs(arguments):
    def loss(x):
        return jnp.sum(jnp.array([1.0, 30.0, 4.0]) * x**2) + jnp.sum(x**4)

    def walked(tx):
        params, path = jnp.array([1.0, -2.0, 0.5]), []
        state = tx.init(params)
        for _ in range(4):
            value, grad = jax.value_and_grad(loss)(params)
            told = {"value": value, "grad": grad, "value_fn": loss}
            updates, state = tx.update(grad, state, params, **told)
            params = jc.apply_updates(params, updates)
            path.append(params)
        return np.array(path)

    np.testing.assert_array_equal(walked(jc.lbfgs(**arguments)), walked(optax.lbfgs(**arguments)))


def test_lbfgs_has_optaxs_arguments():
    ours, theirs = (inspect.signature(each).parameters for each in (jc.lbfgs, optax.lbfgs))
    assert list(ours) == list(theirs)
    numbers = set(ours) - {"linesearch"}
    assert {n: ours[n].default for n in numbers} == {n: theirs[n].default for n in numbers}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"memory_size": 0}, "lbfgs: memory_size must be a whole number >= 1, got 0"),
        ({"learning_rate": -1.0}, r"lbfgs: learning_rate must lie in \[0, inf\), got -1.0"),
    ],
)
def test_bad_arguments_of_lbfgs(arguments, message):
    with pytest.raises(ValueError, match=message):
        jc.lbfgs(**arguments)
