"""Decay towards pretrained weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_cards as jc

START = {"hidden1": {"kernel": jnp.array([[1.0, -2.0]]), "bias": jnp.array([0.5])}}
PARAMS = {
    "hidden1": {"kernel": jnp.array([[1.5, -1.0]]), "bias": jnp.array([0.5])},
    "logits": {"kernel": jnp.array([3.0])},
}
GRADS = jax.tree.map(lambda p: jnp.full_like(p, 0.25), PARAMS)


def test_the_equation():
    tx = jc.add_l2_sp(START, alpha=0.3, beta=0.2)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["hidden1"]["kernel"], [[0.25 + 0.3 * 0.5, 0.25 + 0.3]])
    np.testing.assert_allclose(updates["hidden1"]["bias"], [0.25])
    np.testing.assert_allclose(updates["logits"]["kernel"], [0.25 + 0.2 * 3], rtol=1e-6)


def test_it_is_the_gradient_of_the_paper_s_penalty():
    def penalty(params):
        near = jax.tree.map(lambda p, s: ((p - s) ** 2).sum(), params["hidden1"], START["hidden1"])
        return (
            0.3 / 2 * sum(jax.tree.leaves(near)) + 0.2 / 2 * (params["logits"]["kernel"] ** 2).sum()
        )

    zeros = optax.tree.zeros_like(PARAMS)
    tx = jc.add_l2_sp(START, alpha=0.3, beta=0.2)
    updates, _ = tx.update(zeros, tx.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_allclose, updates, jax.grad(penalty)(PARAMS))


def test_alone_it_leads_back_to_the_start():
    tx = jc.chain(jc.add_l2_sp(START, alpha=1.0, beta=1.0), jc.momentum(0.1, 0.5))
    params, state = PARAMS, tx.init(PARAMS)
    for _ in range(300):
        updates, state = tx.update(optax.tree.zeros_like(PARAMS), state, params)
        params = optax.apply_updates(params, updates)
    jax.tree.map(
        lambda p, s: np.testing.assert_allclose(p, s, atol=1e-5),
        params["hidden1"],
        START["hidden1"],
    )
    np.testing.assert_allclose(params["logits"]["kernel"], 0, atol=1e-5)


def test_of_a_start_at_zero_it_is_weight_decay():
    zeros = optax.tree.zeros_like(PARAMS)
    ours, theirs = jc.add_l2_sp(zeros, alpha=0.1), optax.add_decayed_weights(0.1)
    expected, _ = theirs.update(GRADS, theirs.init(PARAMS), PARAMS)
    updates, _ = ours.update(GRADS, ours.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_what_the_new_network_lacks_does_not_matter_and_dtypes_stay():
    params = {"hidden1": {"bias": jnp.ones(1, jnp.bfloat16)}, "frozen": None}
    tx = jc.add_l2_sp(START)
    state = tx.init(params)
    assert list(state.pretrained) == ["hidden1/bias"]
    updates, after = jax.jit(tx.update)(params, state, params)
    assert updates["hidden1"]["bias"].dtype == jnp.bfloat16
    assert updates["frozen"] is None
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, state)


def test_leaves_that_are_left_out_shift_no_other():
    start, params = {"b": jnp.array([1.0])}, {"a": jnp.array([10.0]), "b": jnp.array([2.0])}
    tx = jc.add_l2_sp(start, alpha=1.0)
    for hole in (None, optax.MaskedNode()):
        updates, _ = tx.update({"a": hole, "b": jnp.zeros(1)}, tx.init(params), params)
        assert updates["a"] is hole
        np.testing.assert_array_equal(updates["b"], [1.0])


def test_a_part_of_a_partition_may_have_nothing_pretrained():
    label = lambda params: {name: name for name in params}  # noqa: E731
    parts = {name: jc.add_l2_sp(START, alpha=0.3, beta=0.2) for name in PARAMS}
    tx = jc.partition(parts, label)
    updates, _ = tx.update(GRADS, tx.init(PARAMS), PARAMS)
    alone = jc.add_l2_sp(START, alpha=0.3, beta=0.2)
    expected, _ = alone.update(GRADS, alone.init(PARAMS), PARAMS)
    jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_strengths_may_be_traced():
    def pull(alpha):
        tx = jc.add_l2_sp(START, alpha=alpha)
        zeros = optax.tree.zeros_like(PARAMS)
        return tx.update(zeros, tx.init(PARAMS), PARAMS)[0]["hidden1"]["kernel"][0, 1]

    np.testing.assert_allclose(jax.vmap(pull)(jnp.array([0.0, 0.5, 2.0])), [0.0, 0.5, 2.0])


def test_bad_calls():
    with pytest.raises(ValueError, match=r"add_l2_sp: alpha must lie in \[0, inf\), got -1"):
        jc.add_l2_sp(START, alpha=-1)
    with pytest.raises(ValueError, match=r"add_l2_sp: beta must lie in \[0, inf\), got nan"):
        jc.add_l2_sp(START, beta=float("nan"))
    with pytest.raises(
        ValueError, match=r"add_l2_sp: pretrained has none of the parameters\n  w\n"
    ):
        jc.add_l2_sp(START).init({"w": jnp.ones(2)})
    with pytest.raises(
        ValueError, match=r"got \(1,\) for hidden1/bias of shape \(2,\); leave it out if it is new"
    ):
        jc.add_l2_sp(START).init({"hidden1": {"bias": jnp.ones(2)}})
    tx = jc.add_l2_sp(START)
    with pytest.raises(ValueError, match="add_l2_sp"):
        tx.update(GRADS, tx.init(PARAMS))
