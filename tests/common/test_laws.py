"""What holds for every optimizer of the table."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_cards as jc
from tests.common.table import CASES


def halving(count):
    """A schedule that JAX and NumPy compute alike, in the widest float there is."""
    return 0.05 / (1.0 + jnp.asarray(count, float) / 10.0)


every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def tree(seed, dtype="float32"):
    rng = np.random.default_rng(seed)
    shapes = {"hidden1": {"kernel": (3, 4), "bias": (4,)}, "scale": ()}
    is_shape = lambda node: isinstance(node, tuple)  # noqa: E731
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s), dtype), shapes, is_leaf=is_shape)


def gradients(steps, dtype="float32"):
    return [tree(seed, dtype) for seed in range(1, steps + 1)]


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


@every
@pytest.mark.parametrize("rate", [lambda t: 0.05, halving], ids=["constant", "schedule"])
def test_equals_the_papers_equation(case, rate, x64):
    params, grads = tree(0, "float64"), gradients(50, "float64")
    ours, _ = walked(case.make(rate), params, grads)
    theirs = jax.tree.map(
        lambda theta, *gs: case.reference(
            np.asarray(theta), [np.asarray(g) for g in gs], lambda t: float(rate(t))
        ),
        params,
        *grads,
    )
    chex.assert_trees_all_close(ours, theirs, rtol=1e-12, atol=1e-12)


@every
@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 2e-6), ("float64", 1e-12)])
def test_equals_optax(case, dtype, rtol):
    with jax.enable_x64(dtype == "float64"):
        params, grads = tree(0, dtype), gradients(20, dtype)
        ours, our_state = walked(case.make(0.05), params, grads)
        with jax.numpy_dtype_promotion("standard"):  # Optax divides float32 by int32
            theirs, their_state = walked(case.optax(0.05), params, grads)
        chex.assert_trees_all_close(ours, theirs, rtol=rtol, atol=rtol)
        chex.assert_trees_all_close(
            jax.tree.leaves(our_state), jax.tree.leaves(their_state), rtol=rtol, atol=rtol
        )


@every
def test_state_fields_are_named_as_in_optax(case):
    ours, theirs = (
        jax.tree_util.tree_leaves_with_path(make(0.1).init(tree(0)))
        for make in (case.make, case.optax)
    )
    names = lambda leaves: [jax.tree_util.keystr(path).split(".")[-1] for path, _ in leaves]  # noqa: E731
    assert names(ours) == names(theirs)


@every
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_keeps_structure_shape_and_dtype(case, dtype):
    params = tree(0, dtype)
    tx = case.make(0.1)
    state = tx.init(params)
    updates, after = jax.jit(tx.update)(params, state, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert jax.tree.structure(after) == jax.tree.structure(state)


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


@every
def test_learning_rates_may_be_traced(case):
    params, grads = tree(0), gradients(3)
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


@every
def test_zero_gradients_move_nothing(case):
    params = jax.tree.map(jnp.zeros_like, tree(0))
    after, _ = walked(case.make(0.1), params, [params] * 3)
    chex.assert_trees_all_equal(after, params)


@every
@pytest.mark.parametrize("scale", [1e-30, 1e15])
def test_huge_and_tiny_gradients_stay_finite(case, scale):
    grads = [jax.tree.map(lambda g: g * scale, grad) for grad in gradients(3)]
    after, _ = walked(case.make(0.1), tree(0), grads)
    chex.assert_tree_all_finite(after)


@every
def test_reaches_the_minimum_of_a_bowl(case):
    curvature = jnp.array([1.0, 4.0])
    loss = lambda params: jnp.sum(curvature * (params - 1.0) ** 2)  # noqa: E731
    tx = case.make(jc.schedules.exponential_decay(case.bowl_rate, 300, 0.1))

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = jnp.array([3.0, -2.0])
    (end, _), _ = jax.lax.scan(step, (start, tx.init(start)), None, length=1500)
    chex.assert_trees_all_close(end, jnp.ones(2), atol=0.05)


@every
def test_needs_parameters_only_where_it_says(case):
    params, tx = tree(0), case.make(0.1)
    if case.needs_params:
        with pytest.raises(ValueError, match="needs the parameters"):
            tx.update(params, tx.init(params))
    else:
        tx.update(params, tx.init(params))


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.scale_free], ids=lambda case: case.name
)
def test_scale_free_optimizers_ignore_the_gradients_scale(case):
    params, grads = tree(0), gradients(5)
    scaled = [jax.tree.map(lambda g: g * 1024, grad) for grad in grads]
    chex.assert_trees_all_close(
        walked(case.make(0.1), params, grads)[0],
        walked(case.make(0.1), params, scaled)[0],
        rtol=1e-5,
        atol=1e-6,
    )
