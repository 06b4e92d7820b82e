"""What holds for every optimizer of the table."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxopt_cards as jc
from tests.common.table import CASES, IN_OPTAX, OPTIMIZERS, TRANSCRIBED


def halving(count):
    """A schedule that JAX and NumPy compute alike, in the widest float there is."""
    return 0.05 / (1.0 + jnp.asarray(count, float) / 10.0)


# Leaves of random trees: shapes, also empty ones and scalars, each with a dtype.
LEAVES = st.lists(
    st.tuples(
        st.lists(st.integers(0, 3), max_size=3).map(tuple),
        st.sampled_from(["float32", "bfloat16", "float16"]),
    ),
    max_size=4,
)


def over(cases):
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


every = over(OPTIMIZERS)


def tree(seed, dtype="float32", leaves=2):
    """Parameters of two shapes; of one, where a law is about time and not about trees."""
    rng = np.random.default_rng(seed)
    kernel = {"hidden1": {"kernel": jnp.asarray(rng.normal(size=(3, 4)), dtype)}}
    return kernel | ({"scale": jnp.asarray(rng.normal(), dtype)} if leaves == 2 else {})


def gradients(steps, dtype="float32", leaves=2):
    return [tree(seed, dtype, leaves) for seed in range(1, steps + 1)]


def descended(tx, loss, start, steps):
    """The parameters after so many steps down a surface."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (start, tx.init(start)), None, length=steps)[0][0]


def walked(tx, params, grads):
    """The parameters and the state after these gradients, compiled."""

    @jax.jit
    def step(params, state, grad):
        updates, state = tx.update(grad, state, params)
        return optax.apply_updates(params, updates), state

    state = tx.init(params)
    for grad in grads:
        params, state = step(params, state, grad)
    return params, state


@over(TRANSCRIBED)
def test_equals_the_papers_equation(case, x64):
    params, grads = tree(0, "float64", leaves=1), gradients(50, "float64", leaves=1)
    ours, _ = walked(case.make(halving), params, grads)
    theirs = jax.tree.map(
        lambda theta, *gs: case.reference(
            np.asarray(theta), [np.asarray(g) for g in gs], lambda t: float(halving(t))
        ),
        params,
        *grads,
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-12, atol=1e-12)


@over(IN_OPTAX)
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-6), ("float64", 1e-12)])
def test_equals_optax(case, dtype, rtol):
    with jax.enable_x64(dtype == "float64"):
        params, grads = tree(0, dtype, leaves=1), gradients(20, dtype, leaves=1)
        ours, our_state = walked(case.make(0.05), params, grads)
        with jax.numpy_dtype_promotion("standard"):  # Optax divides float32 by int32
            theirs, their_state = walked(case.optax(0.05), params, grads)
        chex.assert_trees_all_close(ours, theirs, rtol=rtol, atol=rtol)
        chex.assert_trees_all_close(
            jax.tree.leaves(our_state), jax.tree.leaves(their_state), rtol=rtol, atol=rtol
        )


@over(IN_OPTAX)
def test_state_fields_are_named_as_in_optax(case):
    ours, theirs = (
        jax.tree_util.tree_leaves_with_path(make(0.1).init(tree(0)))
        for make in (case.make, case.optax)
    )
    names = lambda leaves: [jax.tree_util.keystr(path).split(".")[-1] for path, _ in leaves]  # noqa: E731
    assert names(ours) == names(theirs)


@over(CASES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_keeps_structure_shape_and_dtype(case, dtype):
    params = tree(0, dtype)
    tx = case.make(0.1)
    state = tx.init(params)
    updates, after = jax.jit(tx.update)(params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)


@settings(max_examples=30, deadline=None)
@given(case=st.sampled_from(OPTIMIZERS), leaves=LEAVES)
def test_each_leaf_of_any_tree_is_updated_as_if_alone(case, leaves):
    numbers = lambda seed: [  # noqa: E731
        jnp.asarray(np.random.default_rng(seed + index).normal(size=shape), dtype)
        for index, (shape, dtype) in enumerate(leaves)
    ]
    params, grads = ({"nested": ({"leaf": numbers(seed)}, None)} for seed in (0, 100))
    tx = case.make(0.1)
    updates, state = tx.update(grads, tx.init(params), params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_tree_all_finite((updates, state))
    for param, grad, update in zip(*map(jax.tree.leaves, (params, grads, updates)), strict=True):
        alone, _ = tx.update(grad, tx.init(param), param)
        chex.assert_trees_all_equal(update, alone)


@every
def test_eager_equals_compiled(case):
    params, tx = tree(0), case.make(0.1)
    state = tx.init(params)
    for grad in gradients(2):
        eager = tx.update(grad, state, params)
        compiled = jax.jit(tx.update)(grad, state, params)
        chex.assert_trees_all_close(eager, compiled, rtol=1e-6)
        _, state = eager


@every
def test_compiles_once(case):
    params, tx = tree(0), case.make(halving)
    update = jax.jit(tx.update)
    state = tx.init(params)
    for grad in gradients(3):
        _, state = update(grad, state, params)
    assert update._cache_size() == 1


@over([case for case in OPTIMIZERS if case.optax])
def test_a_step_is_no_more_work_than_optaxs(case):
    params = jnp.ones(10_000)

    def cost(tx):
        def step(params, state, grads):
            updates, state = tx.update(grads, state, params)
            return optax.apply_updates(params, updates), state

        compiled = jax.jit(step).lower(params, tx.init(params), params).compile()
        return compiled.cost_analysis()

    with jax.numpy_dtype_promotion("standard"):
        ours, theirs = cost(case.make(0.05)), cost(case.optax(0.05))
    for counted in ("flops", "bytes accessed"):
        # A few more for the step's own numbers, not for the arrays'.
        assert ours[counted] <= theirs[counted] + 100


@every
def test_learning_rates_may_be_traced(case):
    params, grads = tree(0, leaves=1), gradients(3, leaves=1)
    rates = jnp.array([0.01, 0.1, 0.3])
    together = jax.vmap(lambda rate: walked(case.make(rate), params, grads)[0])(rates)
    for index, rate in enumerate((0.01, 0.1, 0.3)):
        alone, _ = walked(case.make(rate), params, grads)
        one = jax.tree.map(lambda leaf, i=index: leaf[i], together)
        chex.assert_trees_all_close(one, alone, rtol=1e-5, atol=1e-6)


@every
def test_masked_leaves_pass_through(case):
    params = tree(0)
    mask = jc.select(params, "hidden1/kernel")
    tx = jc.masked(case.make(0.1), mask)
    updates, _ = tx.update(params, tx.init(params), params)
    alone = case.make(0.1)
    kernel = params["hidden1"]["kernel"]
    expected, _ = alone.update(kernel, alone.init(kernel), kernel)
    chex.assert_trees_all_close(updates["hidden1"]["kernel"], expected, rtol=1e-6)
    chex.assert_trees_all_equal(updates["scale"], params["scale"])


@over(CASES)
def test_zero_gradients_move_nothing(case):
    params = jax.tree.map(jnp.zeros_like, tree(0))
    after, _ = walked(case.make(0.1), params, [params] * 3)
    chex.assert_trees_all_equal(after, params)


@over(CASES)
@pytest.mark.parametrize("scale", [1e-30, 1e15])
def test_huge_and_tiny_gradients_stay_finite(case, scale):
    grads = [jax.tree.map(lambda g: g * scale, grad) for grad in gradients(3, leaves=1)]
    after, _ = walked(case.make(0.1), tree(0, leaves=1), grads)
    chex.assert_tree_all_finite(after)


@over(CASES)
def test_reaches_the_minimum_of_a_bowl(case):
    curvature = jnp.array([1.0, 4.0])
    loss = lambda params: jnp.sum(curvature * (params - 1.0) ** 2)  # noqa: E731
    falling = jc.schedules.exponential_decay(case.bowl_rate, 300, 0.1)
    tx = case.make(falling if case.falling_rate else case.bowl_rate)
    end = descended(tx, loss, jnp.array([3.0, -2.0]), 1500)
    chex.assert_trees_all_close(end, jnp.ones(2), atol=0.05)


@every
def test_needs_parameters_only_where_it_says(case):
    params, tx = tree(0), case.make(0.1)
    if case.needs_params:
        with pytest.raises(ValueError, match="needs the parameters"):
            tx.update(params, tx.init(params))
    else:
        tx.update(params, tx.init(params))


@over([case for case in OPTIMIZERS if case.scale_free])
def test_scale_free_optimizers_ignore_the_gradients_scale(case):
    params, grads = tree(0, leaves=1), gradients(5, leaves=1)
    scaled = [jax.tree.map(lambda g: g * 1024, grad) for grad in grads]
    chex.assert_trees_all_close(
        walked(case.make(0.1), params, grads)[0],
        walked(case.make(0.1), params, scaled)[0],
        rtol=1e-5,
        atol=1e-6,
    )


@over([case for case in OPTIMIZERS if case.declared.takes_complex])
def test_complex_parameters_turn_as_one(case):
    params = {"w": jnp.array([1 + 2j, -0.5j, 3.0], jnp.complex64)}
    grads = [{"w": jnp.array([t - 1j, 0.5 * t, -2 + t * 1j], jnp.complex64)} for t in (1, 2, 3)]
    turned = jax.tree.map(lambda leaf: leaf * 1j, (params, grads))
    with jax.numpy_dtype_promotion("standard"):  # complex times real
        ours, _ = walked(case.make(0.05), params, grads)
        after, _ = walked(case.make(0.05), *turned)
    assert ours["w"].dtype == jnp.complex64
    chex.assert_trees_all_close(after["w"], ours["w"] * 1j, rtol=1e-5, atol=1e-6)


@over([case for case in OPTIMIZERS if not case.declared.takes_complex])
def test_complex_parameters_are_refused_where_they_have_no_meaning(case):
    with pytest.raises(ValueError, match="params must be real, got dtype"):
        case.make(0.1).init({"w": jnp.ones(2, jnp.complex64)})


@every
def test_chains_are_associative(case):
    params, grads = tree(0, leaves=1), gradients(3, leaves=1)
    clip, decay = jc.clip_by_global_norm(0.5), jc.add_decayed_weights(0.1)
    left = jc.chain(jc.chain(clip, decay), case.make(0.05))
    right = jc.chain(clip, jc.chain(decay, case.make(0.05)))
    chex.assert_trees_all_close(
        walked(left, params, grads)[0], walked(right, params, grads)[0], rtol=1e-6
    )


@every
def test_accumulated_parts_are_one_step_on_their_mean(case):
    params, grads = tree(0, leaves=1), gradients(6, leaves=1)
    pairs = [
        jax.tree.map(lambda a, b: (a + b) / 2, first, second)
        for first, second in zip(grads[::2], grads[1::2], strict=True)
    ]
    whole, _ = walked(case.make(0.05), params, pairs)
    with jax.numpy_dtype_promotion("standard"):  # Optax divides by an integer
        parts, _ = walked(jc.MultiSteps(case.make(0.05), 2), params, grads)
    chex.assert_trees_all_close(parts, whole, rtol=2e-4, atol=2e-5)


@every
def test_holes_and_empty_trees_pass_through(case):
    tx = case.make(0.1)
    for params in ({}, {"a": None}, {"a": None, "b": jnp.ones(2)}):
        state = tx.init(params)
        updates, after = tx.update(params, state, params)
        assert jax.tree.structure(updates) == jax.tree.structure(params)
        assert jax.tree.structure(after) == jax.tree.structure(state)


@every
def test_states_pass_through_cond_scan_vmap_and_donation(case):
    params, grads, tx = tree(0, leaves=1), gradients(2, leaves=1), case.make(0.05)
    expected, _ = walked(tx, params, grads)

    def step(carry, grad):
        def taken(carry):
            updates, state = tx.update(grad, carry[1], carry[0])
            return optax.apply_updates(carry[0], updates), state

        return jax.lax.cond(True, taken, lambda carry: carry, carry), None

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *grads)
    carry = (params, tx.init(params))
    (scanned, _), _ = jax.lax.scan(step, carry, stacked)
    chex.assert_trees_all_close(scanned, expected, rtol=1e-5, atol=1e-6)

    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (carry, stacked))
    (both, _), _ = jax.vmap(lambda carry, grads: jax.lax.scan(step, carry, grads))(*twice)
    chex.assert_trees_all_close(
        jax.tree.map(lambda leaf: leaf[1], both), expected, rtol=1e-5, atol=1e-6
    )

    donated = jax.jit(lambda carry, grad: step(carry, grad)[0], donate_argnums=0)
    carry = jax.tree.map(jnp.copy, carry)
    for grad in grads:
        carry = donated(carry, grad)
    chex.assert_trees_all_close(carry[0], expected, rtol=1e-5, atol=1e-6)


@every
def test_half_precision_updates_are_those_of_float32_rounded_once(case):
    params, grads = tree(0, "bfloat16", leaves=1), gradients(20, "bfloat16", leaves=1)
    wide = lambda leaves: jax.tree.map(lambda leaf: leaf.astype("float32"), leaves)  # noqa: E731
    tx = case.make(0.05)
    states = [tx.init(params), tx.init(wide(params))]
    update = jax.jit(tx.update)
    for grad in grads:
        half, states[0] = update(grad, states[0], params)
        full, states[1] = update(wide(grad), states[1], wide(params))
    for ours, exact in zip(jax.tree.leaves(wide(half)), jax.tree.leaves(full), strict=True):
        np.testing.assert_allclose(ours, exact, rtol=2**-7, atol=1e-6)


@over([case for case in OPTIMIZERS if case.valley_rate])
def test_reaches_the_end_of_rosenbrocks_valley(case):
    loss = lambda p: (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2  # noqa: E731
    tx = case.make(jc.schedules.exponential_decay(case.valley_rate, 4000, 0.5))
    end = descended(tx, loss, jnp.array([-1.2, 1.0]), 8000)
    chex.assert_trees_all_close(end, jnp.ones(2), atol=0.05)
