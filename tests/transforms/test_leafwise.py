"""`leafwise`: trees, holes, precision, and errors that name the leaf."""

import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_cards as jc


def running_mean():
    """Returns the mean of the gradients so far, and keeps it."""

    def init(param):
        return jnp.zeros_like(param)

    def update(grad, mean, param, step):
        mean = mean + (grad - mean) / step.astype(grad.dtype)
        return mean, mean

    return jc.leafwise(init, update)


PARAMS = {"hidden1": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, "scale": jnp.ones(())}


def test_counts_from_one_and_keeps_one_state_a_leaf():
    tx = running_mean()
    state = tx.init(PARAMS)
    for value in (1.0, 3.0):
        grads = jax.tree.map(lambda p, v=value: jnp.full_like(p, v), PARAMS)
        updates, state = tx.update(grads, state)
    assert state.count == 2
    chex.assert_trees_all_close(updates, jax.tree.map(lambda p: jnp.full_like(p, 2.0), PARAMS))
    chex.assert_trees_all_equal(updates, state.leaves)


@pytest.mark.parametrize("hole", [None, optax.MaskedNode()], ids=["None", "MaskedNode"])
def test_holes_pass_through(hole):
    params = {"a": jnp.ones(2), "b": hole}
    tx = jc.scale_by_adam()
    updates, state = tx.update(params, tx.init(params), params)
    assert updates["b"] == state.mu["b"] == state.nu["b"] == hole


def test_a_gradient_of_none_leaves_the_state_of_its_parameter_alone():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    tx = jc.trace(0.9)
    _, state = tx.update(params, tx.init(params))
    updates, after = tx.update({"a": jnp.ones(2), "b": None}, state)
    assert updates["b"] is None
    chex.assert_trees_all_equal(after.trace["b"], state.trace["b"])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_is_computed_and_kept_in_float32(dtype):
    params = jnp.ones(3, dtype)
    tx = jc.scale_by_adam()
    state = tx.init(params)
    updates, after = tx.update(params, state)
    assert updates.dtype == params.dtype
    assert state.mu.dtype == state.nu.dtype == after.nu.dtype == jnp.float32


def test_state_keeps_the_dtype_asked_for():
    tx = jc.scale_by_adam(mu_dtype=jnp.bfloat16)
    params = jnp.ones(3)
    _, state = tx.update(params, tx.init(params))
    assert (state.mu.dtype, state.nu.dtype) == (jnp.bfloat16, jnp.float32)


def test_weakly_typed_parameters_do_not_make_a_weakly_typed_state():
    state = jc.trace(0.9).init(jnp.asarray(1.0))
    assert not state.trace.weak_type


class Three(NamedTuple):
    first: Any
    second: Any
    third: Any


class Ball(NamedTuple):
    center: jax.Array
    radius: jax.Array


def test_a_state_of_several_fields_and_of_none():
    def init(param):
        return jnp.zeros_like(param), jnp.ones_like(param)

    def update(grad, state, param, step):
        assert step is None
        center, radius = state
        return grad, (center + 1, radius + 2)

    tx = jc.leafwise(init, update, Ball)
    _, state = tx.update(PARAMS, tx.init(PARAMS))
    chex.assert_trees_all_close(state.center, jax.tree.map(jnp.ones_like, PARAMS))
    chex.assert_trees_all_close(state.radius, jax.tree.map(lambda p: 3 * jnp.ones_like(p), PARAMS))
    assert jc.clip(1.0).init(PARAMS) == optax.EmptyState()


def test_empty_tree():
    tx = jc.scale_by_adam()
    updates, state = tx.update({}, tx.init({}))
    assert updates == state.mu == {}


def without(tree, key):
    return {name: leaf for name, leaf in tree.items() if name != key}


def test_gradients_unlike_the_state():
    tx = jc.adam(0.1)
    message = r"^adam: the updates and mu differ in structure; .*\n  \(none\)\n.*in mu:\n  scale"
    with pytest.raises(ValueError, match=message):
        tx.update(without(PARAMS, "scale"), tx.init(PARAMS), PARAMS)


def test_gradients_unlike_the_parameters():
    tx = jc.add_decayed_weights(0.1)
    with pytest.raises(
        ValueError, match=r"updates and params differ in structure; only in the updates:\n  scale"
    ):
        tx.update(PARAMS, tx.init(PARAMS), without(PARAMS, "scale"))


def with_kernel(array):
    return PARAMS | {"hidden1": {"kernel": array, "bias": jnp.zeros(3)}}


def test_gradient_of_another_shape():
    tx = jc.scale_by_adam()
    grads = with_kernel(jnp.ones((3, 2)))
    with pytest.raises(ValueError, match=r"scale_by_adam: at hidden1/kernel .*\(3, 2\).*\(2, 3\)"):
        tx.update(grads, tx.init(PARAMS), PARAMS)
    with pytest.raises(ValueError, match=r"at hidden1/kernel the state .*\(3, 2\).*\(2, 3\)"):
        tx.update(grads, tx.init(PARAMS))


def test_state_of_another_transformation():
    state = jc.trace(0.9).init(PARAMS)
    with pytest.raises(ValueError, match="must be ScaleByAdamState, got TraceState, which"):
        jc.scale_by_adam().update(PARAMS, state, PARAMS)


def test_a_tree_without_any_floats():
    """Updates below one would make them 0."""
    message = r"scale_by_adam: at a/b the parameter must be of floating point, got int32, and no"
    with pytest.raises(ValueError, match=message):
        jc.scale_by_adam().init({"a": {"b": jnp.ones(2, int)}, "c": jax.random.key(0)})
    jc.scale_by_adam().init({"a": jnp.ones(2, int), "b": optax.MaskedNode()})


def test_a_leaf_that_is_no_array():
    with pytest.raises(
        ValueError, match=r"scale_by_adam: at a the parameter must be an array, got"
    ):
        jc.scale_by_adam().init({"a": jnp.tanh, "b": jnp.ones(2)})


COUNTERS = {
    "w": jnp.ones(2),
    "seen": jnp.arange(3),
    "on": jnp.array(True),
    "key": jax.random.key(0),
}


def no_gradient(leaf):
    return np.zeros(leaf.shape, jax.dtypes.float0)


@pytest.mark.parametrize("absent", [lambda leaf: None, no_gradient], ids=["None", "float0"])
@pytest.mark.parametrize("with_params", [True, False])
def test_leaves_without_gradients_have_no_state_and_stay(absent, with_params):
    grads = jax.tree.map(absent, COUNTERS) | {"w": jnp.ones(2)}
    tx = jc.chain(jc.clip(1.0), jc.scale_by_adam(), jc.trace(0.9), jc.scale_by_learning_rate(0.1))
    state = tx.init(COUNTERS)
    assert state[1].mu["seen"] == state[1].nu["key"] == optax.MaskedNode()
    params = COUNTERS if with_params else None
    updates, after = jax.jit(tx.update)(grads, state, params)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    chex.assert_trees_all_close(updates["w"], jnp.full(2, -0.1), rtol=1e-5)
    for name in ("seen", "on") if grads["seen"] is not None else ():
        assert updates[name].dtype in (COUNTERS[name].dtype, jax.dtypes.float0)
        if with_params:
            chex.assert_trees_all_equal(updates[name], jnp.zeros_like(COUNTERS[name]))


def test_decay_does_not_move_counters():
    grads = {"w": jnp.ones(2), "seen": jnp.zeros(3, int)}
    params = {name: COUNTERS[name] for name in grads}
    tx = jc.adamw(0.1, weight_decay=5.0)
    updates, _ = tx.update(grads, tx.init(params), params)
    chex.assert_trees_all_equal(jc.apply_updates(params, updates)["seen"], params["seen"])


def test_a_gradient_for_a_counter():
    params = {"w": jnp.ones(2), "seen": jnp.arange(3)}
    message = (
        r"^scale_by_adam: at seen the parameter is of int32, so it has no gradient; got float32"
    )
    with pytest.raises(ValueError, match=message):
        jc.scale_by_adam().update(
            {"w": jnp.ones(2), "seen": jnp.ones(3)}, jc.scale_by_adam().init(params), params
        )


def test_gradients_of_integers_are_exact_in_the_parameters_dtype():
    tx = jc.scale_by_rms()
    grads = with_kernel(jnp.arange(6).reshape(2, 3))
    expected = jax.tree.map(lambda grad: grad.astype("float32"), grads)
    chex.assert_trees_all_equal(
        tx.update(grads, tx.init(PARAMS), PARAMS), tx.update(expected, tx.init(PARAMS), PARAMS)
    )


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_gradient_of_booleans(compiled):
    tx = jc.scale_by_rms()
    update = jax.jit(tx.update) if compiled else tx.update
    with pytest.raises(ValueError, match=r"scale_by_rms: at hidden1/kernel .*got bool"):
        update(with_kernel(jnp.ones((2, 3), bool)), tx.init(PARAMS))


class Doubling:
    """A callable object as an equation."""

    def __call__(self, grad, state, param, step):
        return 2 * grad, state


def scaled(factor, grad, state, param, step):
    return factor * grad, state


@pytest.mark.parametrize(
    ("update", "name"),
    [(Doubling(), "Doubling"), (functools.partial(scaled, 2), "scaled")],
    ids=["object", "partial"],
)
def test_equations_that_are_no_functions(update, name):
    tx = jc.leafwise(functools.partial(jnp.full_like, fill_value=1.0), update)
    updates, state = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda p: 2 * p, PARAMS))
    chex.assert_trees_all_equal(state.leaves, jax.tree.map(jnp.ones_like, PARAMS))
    with pytest.raises(ValueError, match=f"^{name}: at hidden1/kernel the gradient must be of"):
        tx.update(with_kernel(jnp.ones((2, 3), bool)), state, PARAMS)


class CountedLast(NamedTuple):
    total: Any
    count: jax.Array
    least: Any


def test_count_may_be_any_field():
    def update(grad, state, param, step):
        total, least = state
        return grad * step.astype(grad.dtype), (total + grad, jnp.minimum(least, grad))

    tx = jc.leafwise(lambda p: (jnp.zeros_like(p), jnp.ones_like(p)), update, CountedLast)
    _, state = tx.update(PARAMS, tx.init(PARAMS))
    updates, state = tx.update(PARAMS, state)
    assert state.count == 2
    chex.assert_trees_all_equal(updates, jax.tree.map(lambda p: 2 * p, PARAMS))
    chex.assert_trees_all_equal(state.total, jax.tree.map(lambda p: 2 * p, PARAMS))
    chex.assert_trees_all_equal(state.least, PARAMS)


def test_an_init_that_returns_too_much():
    tx = jc.leafwise(lambda p: (p, p, p), Doubling(), CountedLast)
    with pytest.raises(ValueError, match=r"^Doubling: init must return 2 arrays, got 3"):
        tx.init(PARAMS)


def test_states_share_no_buffer_with_each_other_or_the_parameters():
    params = {"a": jnp.ones(3), "b": jnp.ones(3)}
    zero = jnp.zeros(3)
    tx = jc.leafwise(lambda p: (p, p, zero), Doubling(), Three)
    state = tx.init(params)
    leaves = jax.tree.leaves((params, state))
    assert len({leaf.unsafe_buffer_pointer() for leaf in leaves}) == 2 + 6
    jax.jit(tx.update, donate_argnums=1)(params, state)
    assert not params["a"].is_deleted()


def test_parameters_missing():
    tx = jc.adamw(0.1)
    with pytest.raises(ValueError, match=r"^adamw: needs the parameters"):
        tx.update(PARAMS, tx.init(PARAMS))


def test_an_equation_that_changes_a_shape():
    tx = jc.leafwise(jnp.zeros_like, lambda grad, state, param, step: (grad, state[:1]))
    with pytest.raises(
        ValueError, match=r"must have the shapes \[\(3,\), \(3,\)\], got \[\(3,\), \(1"
    ):
        tx.update(jnp.ones(3), tx.init(jnp.ones(3)))


@pytest.mark.parametrize(
    ("returned", "got"),
    [(lambda g, s: g, "one value"), (lambda g, s: (g, s, 1), "3 values")],
)
def test_an_equation_that_returns_no_pair(returned, got):
    tx = jc.leafwise(jnp.zeros_like, lambda grad, state, param, step: returned(grad, state))
    with pytest.raises(ValueError, match=rf"must return the pair \(update, state\), got.*({got})"):
        tx.update(jnp.ones(3), tx.init(jnp.ones(3)))


def test_all_leaves_of_one_shape_are_traced_once():
    traces = []

    def update(grad, state, param, step):
        traces.append(grad.shape)
        return grad, state

    tx = jc.leafwise(jnp.zeros_like, update)
    params = [jnp.ones(4) for _ in range(10)] + [jnp.ones(5)]
    jax.jit(tx.update)(params, tx.init(params))
    assert traces == [(4,), (5,)]


@pytest.mark.parametrize("has_params", [True, False])
def test_counters_stay_also_with_integer_gradients(has_params):
    params = {"w": jnp.ones(2), "seen": jnp.array([3])}
    tx = jc.scale_by_adam()
    given = params if has_params else None
    updates, _ = tx.update({"w": jnp.ones(2), "seen": jnp.array([5])}, tx.init(params), given)
    assert optax.apply_updates(params, updates)["seen"] == 3
