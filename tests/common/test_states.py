"""What holds for the states of all transformations: buffers, donation, shapes alone, mapping."""

import inspect
import os
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_cards as jc
from tests.common.transformations import TRANSFORMATIONS, params


@pytest.fixture(autouse=True)
def optaxs_own_promotions():
    """Optax's counters are added to its floats."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def over(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


def gradients(like, steps):
    return [jax.tree.map(lambda p, t=t: jnp.cos(p * 3 + t), like) for t in range(steps)]


def buffers(*trees):
    """Where the numbers lie, for each leaf and device."""
    return [
        shard.data.unsafe_buffer_pointer()
        for leaf in jax.tree.leaves(trees)
        for shard in (
            jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        ).addressable_shards
    ]


def shared(*trees):
    """How many buffers are in use more than once."""
    found = buffers(*trees)
    return len(found) - len(set(found))


def donated_step(tx, extra):
    """A training step as it is usually compiled."""

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params, **extra)
        return optax.apply_updates(params, updates), state

    return jax.jit(step, donate_argnums=(0, 1))


def run(row, start, grads, passes=2):
    """So many donated steps, twice from the same transformation; and all laws of buffers."""
    given = row.given()
    tx = optax.with_extra_args_support(row.make(*given))
    step = donated_step(tx, row.extra)
    for _ in range(passes):
        # Copied bit for bit, and laid out as they were.
        now = jax.tree.map(jnp.copy, start)
        state = tx.init(now)
        assert not shared(now, state, given), row.name
        for grad in grads:
            # One step at a time: with fewer cores than devices, steps that run at once can wait for
            # each other's threads for ever.
            now, state = jax.block_until_ready(step(now, state, grad))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves((start, given))), row.name
    return now, state


def test_every_public_transformation_has_a_row():
    types = (optax.GradientTransformation, optax.GradientTransformationExtraArgs)
    public = [name for name in jc.__all__ if inspect.isfunction(getattr(jc, name))]
    ours = {
        name
        for name in public
        if getattr(jc, name).__module__.startswith("jaxopt_cards.")
        and inspect.signature(getattr(jc, name), eval_str=True).return_annotation in types
    }
    assert len(ours) > 40
    # `lbfgs` is Optax's function, whose limits its card says; tests/test_optimizers.py compares it.
    assert ours - {"lbfgs"} <= {row.function for row in TRANSFORMATIONS}


@over(TRANSFORMATIONS)
def test_steps_may_donate_parameters_and_state(row):
    run(row, params(), gradients(params(), 10))


@over(TRANSFORMATIONS)
def test_an_eager_update_returns_no_buffer_twice(row):
    tx = optax.with_extra_args_support(row.make(*row.given()))
    state = tx.init(params())
    for grad in gradients(params(), 2):
        updates, state = tx.update(grad, state, params(), **row.extra)
        assert not shared(updates, state)


@over(TRANSFORMATIONS)
def test_shapes_alone_make_the_state(row):
    abstract = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype), params())
    tx, start = row.make(*row.given()), params()
    expected, found = tx.init(start), tx.init(abstract)
    chex.assert_trees_all_equal_shapes_and_dtypes(found, expected)
    other = jax.tree.leaves(tx.init(jax.tree.map(lambda p: p + 1, start)))
    for ours, theirs, elsewhere in zip(
        jax.tree.leaves(found), jax.tree.leaves(expected), other, strict=True
    ):
        if np.array_equal(theirs, elsewhere):
            np.testing.assert_array_equal(ours, theirs)
        else:  # a copy of the parameters: nothing to be made of shapes
            assert isinstance(ours, jax.ShapeDtypeStruct)


@over(TRANSFORMATIONS)
def test_states_can_be_mapped_over_as_parameters(row):
    """With a tree like the parameters, as for shardings."""
    tx, start = row.make(*row.given()), params()
    state = tx.init(start)
    is_hole = lambda node: isinstance(node, optax.MaskedNode)  # noqa: E731
    seen = []

    def like(leaf, param):
        assert is_hole(leaf) or leaf.shape == param.shape
        seen.append(leaf)
        return leaf

    mapped = optax.tree_utils.tree_map_params(tx, like, state, start, is_leaf=is_hole)
    chex.assert_trees_all_equal(mapped, state)
    specs = optax.tree_utils.tree_map_params(
        tx, lambda _, p: p, state, start, transform_non_params=lambda _: None, is_leaf=is_hole
    )
    found = len(jax.tree.leaves(specs))
    assert found >= len([leaf for leaf in seen if not is_hole(leaf)])


def with_counters(like):
    return {
        **like,
        "scale": {"numbers": like["scale"], "seen": jnp.arange(3), "on": jnp.array(True)},
    }


@pytest.mark.parametrize(
    ("row", "absent"),
    [
        pytest.param(row, absent, id=f"{row.name}, {absent}")
        for row in TRANSFORMATIONS
        for absent in row.absent
    ],
)
def test_counters_among_the_parameters_stay(row, absent):
    tx = optax.with_extra_args_support(row.make(*row.given()))
    start = with_counters(params())
    state = tx.init(start)
    nothing = lambda p: None if absent == "None" else np.zeros(p.shape, jax.dtypes.float0)  # noqa: E731
    grad = jax.tree.map(
        lambda p: jnp.cos(p) if jnp.issubdtype(p.dtype, jnp.inexact) else nothing(p), start
    )
    updates, after = jax.jit(tx.update)(grad, state, start, **row.extra)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for name in ("seen", "on"):
        moved = updates["scale"][name]
        if moved is not None and moved.dtype != jax.dtypes.float0:
            np.testing.assert_array_equal(start["scale"][name] + moved, start["scale"][name])


MANY = """
import jax, jax.numpy as jnp, numpy as np, sys
jax.config.update("jax_disable_most_optimizations", True)
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from tests.common.test_states import gradients, run
from tests.common.transformations import TRANSFORMATIONS, params

mesh = jax.make_mesh((8,), ("rows",), axis_types=(getattr(AxisType, sys.argv[1]),))
rows = NamedSharding(mesh, P("rows"))
for row in TRANSFORMATIONS:
    grads = gradients(params(), 10)
    alone, _ = run(row, params(), grads, passes=1)
    spread, state = run(row, jax.device_put(params(), rows), jax.device_put(grads, rows), passes=1)
    for ours, theirs in zip(jax.tree.leaves(spread), jax.tree.leaves(alone), strict=True):
        assert ours.sharding.is_equivalent_to(rows, ours.ndim), row.name
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=row.name)
print("as on one device")
"""


@pytest.mark.parametrize("axes", ["Auto", "Explicit"])
def test_eight_devices_donate_and_give_what_one_gives(axes):
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=8"
    ran = subprocess.run(
        [sys.executable, "-c", MANY, axes],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "as on one device\n", ran.stderr[-3000:]
