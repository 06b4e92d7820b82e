"""Gradients and parameters of any two dtypes: what Optax returns, but not rounded on the way."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_cards as jc
from tests.common.transformations import IN_OPTAX, params

DTYPES = ["float32", "bfloat16", "float16"]


def over(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


def cast(tree, dtype):
    """Strongly typed, as gradients and parameters are."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def last_update(make, extra, start, grads):
    """The last of several updates at the same parameters."""
    tx = optax.with_extra_args_support(make())
    state = tx.init(start)
    for grad in grads:
        updates, state = tx.update(grad, state, start, **extra)
    return updates


@over(IN_OPTAX)
@pytest.mark.parametrize("of_params", DTYPES)
@pytest.mark.parametrize("of_grads", DTYPES)
def test_updates_have_optaxs_dtype_and_its_precision(row, of_params, of_grads):
    start = cast(params(), of_params)
    grads = [cast(jax.tree.map(lambda p, t=t: jnp.cos(p * t), params()), of_grads) for t in (1, 2)]
    ours = last_update(row.make, row.extra, start, grads)
    with jax.numpy_dtype_promotion("standard"):
        # The first, since some of Optax's states change their dtype in it.
        theirs = last_update(row.optax, row.extra, start, grads[:1])
        # As if all had been float32 from the start, which holds every half exactly.
        wide = cast(start, "float32"), [cast(grad, "float32") for grad in grads]
        exact = last_update(row.optax, row.extra, *wide)
        if row.keeps_halves:
            theirs = cast(theirs, jnp.promote_types(of_grads, of_params))
    chex.assert_trees_all_equal_dtypes(ours, theirs)
    for update, reference in zip(*map(jax.tree.leaves, (ours, exact)), strict=True):
        eps = float(jnp.finfo(update.dtype).eps)
        tolerances = {"rtol": 2e-6 + eps, "atol": 1e-7}
        np.testing.assert_allclose(np.asarray(update, "float32"), reference, **tolerances)


def test_decay_acts_on_float32_parameters_whatever_the_gradients():
    """Rounded to bfloat16, a decay of 4e-4 is lost beside an update of 1."""
    start, grads = {"w": jnp.full(2, 4.0, "float32")}, {"w": jnp.ones(2, "bfloat16")}
    moved = [
        last_update(lambda decay=decay: jc.adamw(0.1, weight_decay=decay), {}, start, [grads])["w"]
        for decay in (1e-4, 0.0)
    ]
    np.testing.assert_allclose(moved[0] - moved[1], -0.1 * 1e-4 * 4, rtol=1e-2)


@pytest.mark.parametrize("of_grads", DTYPES)
@pytest.mark.parametrize(
    "make",
    [
        lambda: jc.chain(jc.sgd(0.1), jc.magnitude_prune(0.5)),
        lambda: jc.chain(jc.sgd(0.1), jc.proximal_l1(0.5)),
    ],
    ids=["magnitude_prune", "proximal_l1"],
)
def test_zeros_are_exact_whatever_the_gradients(make, of_grads):
    start = jnp.array([0.1234567, 1.2345678])
    updates = last_update(make, {}, start, [jnp.zeros(2, of_grads)])
    assert optax.apply_updates(start, updates)[0] == 0


@pytest.mark.parametrize("of_grads", DTYPES)
def test_lookahead_goes_back_exactly(of_grads):
    start = jnp.array([0.1234567, 1.2345678])
    tx = jc.lookahead(jc.sgd(0.1), 1)
    updates, state = tx.update(jnp.asarray([1.0, 2.0], of_grads), tx.init(start), start)
    np.testing.assert_allclose(optax.apply_updates(start, updates), state.slow, rtol=2e-7)


def test_a_guard_takes_wide_updates_of_narrow_gradients():
    """A step of 1e6 is no number in float16, but it is none of float16."""
    tx = jc.skip_nonfinite(jc.chain(jc.trace(0.9), jc.scale_by_learning_rate(1e6)))
    start, grads = jnp.ones(2), jnp.ones(2, "float16")
    updates, state = tx.update(grads, tx.init(start), start)
    np.testing.assert_array_equal(updates, -1e6)
    assert jc.read_skips(state).total == 0


def test_without_parameters_an_update_keeps_the_gradients_dtype():
    tx = jc.scale_by_adam()
    updates, _ = tx.update(jnp.ones(2, "bfloat16"), tx.init(jnp.ones(2)))
    assert updates.dtype == jnp.bfloat16


def test_packed_leaves_may_have_gradients_of_other_dtypes():
    start = {"a": jnp.ones(3), "b": jnp.ones(2, "bfloat16"), "c": jnp.ones(4)}
    grads = {"a": jnp.ones(3, "float16"), "b": jnp.ones(2), "c": jnp.ones(4)}
    for given in (start, None):
        packed = jc.pack_small_leaves(jc.adam(0.1))
        updates, state = packed.update(grads, packed.init(start), given)
        _, after = packed.update(grads, state, given)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, packed.init(start))
        alone, _ = jc.adam(0.1).update(grads, jc.adam(0.1).init(start), given)
        chex.assert_trees_all_close(cast(updates, "float32"), cast(alone, "float32"), rtol=1e-3)
