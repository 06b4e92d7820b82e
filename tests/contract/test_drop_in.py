"""Optax's functions may be replaced by ours of the same name: calls, results and states agree."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_cards as jc
from tests.contract.differences import OF_COMPLEX, SIGNATURES
from tests.contract.shared import (
    OPTIMIZERS,
    SCHEDULES,
    SHARED,
    TRANSFORMATIONS,
    both,
    falling,
    params,
    required,
    variants,
    walked,
)

VARIANTS = [
    pytest.param(name, arguments, id="-".join([str(number), name, *arguments]))
    for number, (name, arguments) in enumerate(variants())
]


def test_shared_names_are_found():
    assert len(OPTIMIZERS) >= 10
    assert {*TRANSFORMATIONS, *SCHEDULES, "lookahead"} == SHARED.keys()


@pytest.mark.parametrize("name", sorted(SHARED))
def test_signatures_are_optaxs(name):
    def arguments(function):
        parameters = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, p.default) for p in parameters]

    ours, theirs = map(arguments, SHARED[name])
    assert (ours == theirs) == (name not in SIGNATURES)


@pytest.mark.parametrize(("name", "arguments"), VARIANTS)
def test_results_and_states_are_optaxs(name, arguments):
    ours, theirs = both(name, arguments)
    (after, state), (expected, expected_state) = (walked(tx, params()) for tx in (ours, theirs))
    # In half precision Optax's own arithmetic is the rougher one.
    rtol = 1e-2 if "bfloat16" in map(str, arguments.values()) else 1e-5
    chex.assert_trees_all_close(after, expected, rtol=rtol, atol=rtol / 10)
    # A structure holds the classes of the states: they are the same, not only alike.
    assert jax.tree.structure(state) == jax.tree.structure(expected_state)
    assert jax.tree.structure(ours.init(params())) == jax.tree.structure(state)


def needs_parameters(tx):
    with jax.numpy_dtype_promotion("standard"):
        extra = optax.with_extra_args_support(tx)
        try:
            extra.update(params(), tx.init(params()), value=jnp.float32(1.0))
        except (ValueError, TypeError, AttributeError):
            return True
    return False


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_parameters_are_needed_only_where_optax_needs_them(name):
    ours, theirs = map(needs_parameters, both(name, {}))
    assert theirs or not ours


@pytest.mark.parametrize("name", sorted(set(TRANSFORMATIONS) - {"reduce_on_plateau"}))
@pytest.mark.parametrize(
    "start",
    [{}, [], jnp.float32(2.0), {"a": jnp.zeros((0, 3))}, (jnp.ones(2), [jnp.ones((1, 1))])],
    ids=["no leaves", "empty list", "scalar", "empty leaf", "tuple of list"],
)
def test_trees_of_every_kind(name, start):
    ours, theirs = (walked(tx, start, 2) for tx in both(name, {}))
    chex.assert_trees_all_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_equal_shapes(ours[0], start)
    assert jax.tree.structure(ours[1]) == jax.tree.structure(theirs[1])


@pytest.mark.parametrize("name", sorted(set(TRANSFORMATIONS) - {"reduce_on_plateau", *OF_COMPLEX}))
def test_complex_numbers(name):
    start = {"w": jnp.array([1 + 2j, -0.5j, 3.0], jnp.complex64)}
    try:
        expected = walked(both(name, {})[1], start)[0]
    except (TypeError, ValueError):
        assert name == "clip"  # there is no order of complex numbers
        return
    chex.assert_trees_all_close(walked(both(name, {})[0], start)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_number_may_be_injected(name):
    with jax.numpy_dtype_promotion("standard"):
        made = [optax.inject_hyperparams(make)(**required(name)) for make in SHARED[name]]
        states = [tx.init(params()) for tx in made]
        assert states[0].hyperparams.keys() == states[1].hyperparams.keys()
        ours, theirs = (walked(tx, params())[0] for tx in made)
        chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_states_are_read_and_set_by_name(name):
    tx = optax.inject_hyperparams(SHARED[name][0])(learning_rate=0.5)
    state = tx.init(params())
    assert optax.tree.get(state, "learning_rate") == 0.5
    changed = optax.tree.set(state, learning_rate=jnp.float32(0.0))
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = tx.update(params(), changed, params())
    chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, updates))


WRAPPERS = {
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 2).gradient_transformation(),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "partition": lambda tx: optax.partition(
        {"a": tx, "b": optax.set_to_zero()}, {"hidden1": "a", "scale": "b"}
    ),
    "masked": lambda tx: optax.masked(tx, {"hidden1": True, "scale": False}),
    "flatten": optax.flatten,
    "named_chain": lambda tx: optax.named_chain(("clip", optax.clip(0.5)), ("tx", tx)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_inside_of_optaxs_wrappers(wrapper, name):
    made = [WRAPPERS[wrapper](tx) for tx in both(name, {"learning_rate": falling})]
    # Without it, each `cond` of a wrapper is compiled anew in each step.
    ours, theirs = (walked(tx, params(), 4, jax.jit) for tx in made)
    chex.assert_trees_all_close(ours[0], theirs[0], rtol=1e-5, atol=1e-6)
    assert jax.tree.structure(ours[1]) == jax.tree.structure(theirs[1])


@pytest.mark.parametrize("arguments", [{}, {"staircase": True}, {"transition_begin": 4}])
@pytest.mark.parametrize("rate", [0, 0.5, 2.0, jnp.full((1,), 0.5)])
@pytest.mark.parametrize("end", [None, 0.3])
@pytest.mark.parametrize("steps", [5, 5.0, np.float32(2.5), float("inf")])
def test_exponential_decay(arguments, rate, end, steps):
    arguments = {"transition_steps": steps, "decay_rate": rate, "end_value": end} | arguments
    ours, theirs = (make(0.5, **arguments) for make in SHARED["exponential_decay"])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for count in (0, 3, 5, 17):
            np.testing.assert_allclose(ours(count), np.squeeze(theirs(count)), rtol=1e-5)


def test_every_name_that_is_not_ours_is_optaxs_own():
    for name in jc.from_optax.__all__:
        assert getattr(jc, name) is getattr(optax, name)
