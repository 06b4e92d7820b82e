"""Clipping never lengthens, and keeps what is within bounds."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import jaxopt_cards as jc

arrays = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=0, max_dims=3, max_side=5),
    # XLA takes numbers below the smallest normal one for zero
    elements=st.floats(-1e6, 1e6, width=32, allow_subnormal=False),
)
trees = st.recursive(
    arrays, lambda inner: st.dictionaries(st.sampled_from("abc"), inner), max_leaves=5
)
bounds = st.floats(1e-3, 1e3)


def clipped(tx, tree):
    return tx.update(tree, tx.init(tree))[0]


def norm(tree):
    return np.sqrt(
        sum(float(np.sum(np.square(leaf, dtype=np.float64))) for leaf in jax.tree.leaves(tree))
    )


@settings(deadline=None, max_examples=50)
@given(trees, bounds)
def test_clip_by_global_norm_stays_in_the_ball_and_keeps_the_direction(tree, bound):
    after = clipped(jc.clip_by_global_norm(bound), tree)
    assert norm(after) <= min(bound, norm(tree)) * (1 + 1e-5)
    factor = min(1.0, bound / norm(tree)) if norm(tree) else 1.0
    expected = jax.tree.map(lambda x: x * np.float32(factor), tree)
    smallest = float(np.finfo(np.float32).tiny)  # below it XLA gives zero
    chex.assert_trees_all_close(after, expected, rtol=1e-4, atol=smallest)


@settings(deadline=None, max_examples=50)
@given(trees, bounds)
def test_clip_is_numpys_and_idempotent(tree, bound):
    tx = jc.clip(bound)
    after = clipped(tx, tree)
    expected = jax.tree.map(lambda x: np.clip(x, -np.float32(bound), np.float32(bound)), tree)
    chex.assert_trees_all_close(after, expected, rtol=1e-6)
    chex.assert_trees_all_equal(clipped(tx, after), after)


@pytest.mark.parametrize("bound", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("name", ["clip", "clip_by_global_norm"])
def test_equals_optax(name, bound):
    tree = {"a": jnp.array([3.0, -4.0]), "b": jnp.array(0.01)}
    ours, theirs = (clipped(getattr(module, name)(bound), tree) for module in (jc, optax))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-6)


def test_half_precision_norms_do_not_overflow():
    tree = jnp.full(100, 1000.0, jnp.float16)  # its squares are infinite in float16
    after = clipped(jc.clip_by_global_norm(1.0), tree)
    assert after.dtype == jnp.float16
    np.testing.assert_allclose(after, 0.1, rtol=1e-2)


def test_an_empty_tree_and_holes_pass():
    assert clipped(jc.clip_by_global_norm(1.0), {}) == {}
    assert clipped(jc.clip_by_global_norm(1.0), {"a": None}) == {"a": None}
