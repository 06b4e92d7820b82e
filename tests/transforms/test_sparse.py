"""Exact zeros that stay, projections onto what they should, and nothing moved apart."""

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

numbers = st.floats(-100, 100, width=32, allow_subnormal=False)
vectors = hnp.arrays(np.float32, st.integers(1, 8), elements=numbers)
matrices = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3), elements=numbers)
positive = st.floats(0.01, 50)
properties = settings(deadline=None, max_examples=20)


def after(tx, params, grads=None):
    """The parameters after one update."""
    grads = jax.tree.map(jnp.zeros_like, params) if grads is None else grads
    updates, _ = tx.update(grads, tx.init(params), params)
    return optax.apply_updates(params, updates)


@properties
@given(vectors, positive)
def test_proximal_l1_is_the_soft_threshold(x, threshold):
    got = after(jc.proximal_l1(threshold), jnp.asarray(x))
    threshold = np.float32(threshold)
    expected = np.where(np.abs(x) > threshold, x - np.sign(x) * threshold, 0)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert (np.asarray(got)[np.abs(x) <= threshold] == 0).all()


@properties
@given(vectors, vectors, positive)
def test_proximal_l1_brings_no_two_points_further_apart(x, y, threshold):
    x, y = x[: len(y)], y[: len(x)]
    tx = jc.proximal_l1(threshold)
    distance = np.linalg.norm(after(tx, jnp.asarray(x)) - after(tx, jnp.asarray(y)))
    assert distance <= np.linalg.norm(x - y) * (1 + 1e-5) + 1e-5


def test_proximal_l1_solves_the_lasso_with_exact_zeros():
    """Proximal gradient descent ends where the lasso's optimality conditions hold."""
    rng = np.random.default_rng(0)
    features, truth = rng.normal(size=(40, 6)), np.array([2.0, 0, 0, -1.0, 0, 0])
    targets, lam = features @ truth + 0.01 * rng.normal(size=40), 0.1
    slope = lambda w: features.T @ (features @ w - targets) / 40  # noqa: E731
    tx = jc.chain(jc.sgd(0.1), jc.proximal_l1(0.1 * lam))
    params = jnp.ones(6)
    state = tx.init(params)
    for _ in range(500):
        grad = jnp.asarray(slope(np.asarray(params, float)), jnp.float32)
        updates, state = tx.update(grad, state, params)
        params = optax.apply_updates(params, updates)
    params = np.asarray(params, float)
    assert (params[truth == 0] == 0).all()
    np.testing.assert_allclose(slope(params)[[0, 3]], -lam * np.sign(params[[0, 3]]), atol=1e-4)
    assert (np.abs(slope(params)[truth == 0]) <= lam).all()


@properties
@given(matrices, positive)
def test_max_norm_is_a_projection(x, radius):
    tx, params = jc.max_norm(radius), jnp.asarray(x)
    once = after(tx, params)
    axes = tuple(range(x.ndim - 1))
    norms = np.sqrt(np.sum(np.square(once, dtype=np.float64), axis=axes))
    # The update is added to the parameters, at the precision that they have.
    rounding = 4 * np.finfo(np.float32).eps * np.abs(x).max()
    assert (norms <= radius * (1 + 1e-5) + rounding).all()
    np.testing.assert_allclose(after(tx, once), once, rtol=1e-5, atol=rounding + 1e-7)
    inside = np.sqrt(np.sum(np.square(x, dtype=np.float64), axis=axes)) < radius * (1 - 1e-5)
    np.testing.assert_array_equal(np.asarray(once)[..., inside], x[..., inside])


@properties
@given(st.integers(0, 2**16), positive)
def test_max_norm_brings_no_two_points_further_apart(seed, radius):
    x, y = np.random.default_rng(seed).normal(scale=20, size=(2, 4, 3)).astype(np.float32)
    tx = jc.max_norm(radius)
    distance = np.linalg.norm(after(tx, jnp.asarray(x)) - after(tx, jnp.asarray(y)))
    assert distance <= np.linalg.norm(x - y) * (1 + 1e-4)


def test_max_norm_by_the_chapters_text_and_by_its_listing():
    rng = np.random.default_rng(0)
    kernels = {name: {"kernel": rng.normal(size=(4, 3))} for name in ("hidden1", "logits")}
    params = jax.tree.map(jnp.float32, kernels)

    def clipped(kernel, axes):  # tf.clip_by_norm(kernel, clip_norm=1.0, axes=axes)
        return kernel / np.maximum(np.linalg.norm(kernel, axis=axes, keepdims=True), 1.0)

    text = jax.tree.map(lambda kernel: clipped(kernel, 0), kernels)
    listing = kernels | {"hidden1": {"kernel": clipped(kernels["hidden1"]["kernel"], 1)}}
    chex.assert_trees_all_close(after(jc.max_norm(1.0), params), text, rtol=1e-5)
    of_listing = jc.max_norm(1.0, axis=1, mask="hidden.*kernel")
    chex.assert_trees_all_close(after(of_listing, params), listing, rtol=1e-5)
    hidden = after(jc.max_norm(1.0, mask="hidden.*kernel"), params)
    chex.assert_trees_all_close(hidden, kernels | {"hidden1": text["hidden1"]}, rtol=1e-5)


def test_max_norm_by_axis_and_pattern():
    params = {"a": {"kernel": jnp.full((2, 3), 3.0), "bias": jnp.full(3, 9.0)}}
    rows = after(jc.max_norm(1.0, axis=1), {"kernel": params["a"]["kernel"]})
    np.testing.assert_allclose(np.linalg.norm(rows["kernel"], axis=1), 1, rtol=1e-5)
    chex.assert_trees_all_equal(after(jc.max_norm(1.0), params)["a"]["bias"], params["a"]["bias"])
    only = after(jc.max_norm(1.0, axis=0, mask="bias"), params)
    chex.assert_trees_all_equal(only["a"]["kernel"], params["a"]["kernel"])
    np.testing.assert_allclose(np.linalg.norm(only["a"]["bias"]), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="max_norm: the pattern 'kernels' matches none of"):
        jc.max_norm(1.0, mask="kernels").init(params)


@properties
@given(matrices, st.floats(0, 0.99))
def test_pruning_by_sparsity_zeroes_that_share_and_never_revives(x, sparsity):
    tx, params = jc.magnitude_prune(sparsity=sparsity), jnp.asarray(x) + 200  # nothing is zero yet
    state = tx.init(params)
    zero = np.zeros(x.shape, bool)
    for seed in range(3):
        grad = jnp.asarray(np.random.default_rng(seed).normal(size=x.shape), jnp.float32)
        updates, state = tx.update(grad, state, params)
        params = optax.apply_updates(params, updates)
        now = np.asarray(params) == 0
        assert (now | ~zero).all()
        zero = now
        assert zero.sum() == int(np.float32(sparsity) * np.float32(x.size))


def test_pruning_by_threshold():
    tx = jc.magnitude_prune(threshold=0.5)
    params = jnp.array([1.0, -0.4, 0.6])
    updates, state = tx.update(jnp.array([-0.7, 0.0, 0.0]), tx.init(params), params)
    params = optax.apply_updates(params, updates)
    np.testing.assert_array_equal(params[:2], 0)
    updates, _ = tx.update(jnp.full(3, 5.0), state, params)
    np.testing.assert_allclose(optax.apply_updates(params, updates), [0, 0, 5.6], rtol=1e-6)


def test_pruning_chooses_anew_only_every_so_often_and_follows_a_schedule():
    tx = jc.magnitude_prune(sparsity=lambda t: jnp.array([0.0, 0.25, 0.5, 0.5])[t], every=2)
    params = jnp.arange(1.0, 9.0)
    state = tx.init(params)
    zeros = []
    for _ in range(4):
        updates, state = tx.update(jnp.zeros(8), state, params)
        params = optax.apply_updates(params, updates)
        zeros.append(int((params == 0).sum()))
    assert zeros == [0, 0, 4, 4]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jc.magnitude_prune(), "magnitude_prune: give exactly one of threshold and spars"),
        (lambda: jc.magnitude_prune(0.1, 0.1), "prune: give exactly one .*, got threshold=0.1 and"),
        (lambda: jc.magnitude_prune(sparsity=1.0), r"sparsity must lie in \[0, 1\), got 1.0"),
        (lambda: jc.magnitude_prune(0.0), r"threshold must lie in \(0, inf\), got 0.0"),
        (lambda: jc.magnitude_prune(0.1, every=0), "every must be a whole number >= 1, got 0"),
        (lambda: jc.proximal_l1(-1.0), r"proximal_l1: strength must lie in \[0, inf\), got -1.0"),
        (lambda: jc.max_norm(0.0), r"max_norm: max_norm must lie in \(0, inf\], got 0.0"),
        (lambda: jc.max_norm(1.0, mask="("), r"max_norm: '\(' is not a regular expression"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [jc.proximal_l1, jc.magnitude_prune, jc.max_norm, jc.add_l1_decay])
def test_parameters_are_needed(make):
    tx = make(0.1)
    with pytest.raises(ValueError, match="needs the parameters, got params=None"):
        tx.update(jnp.ones(1), tx.init(jnp.ones(1)))


@pytest.mark.parametrize("smooth", [0.0, 0.5])
def test_penalties_are_the_gradients_of_their_formulas(smooth, x64):
    params = jnp.array([2.0, -0.3, 1e-3])

    def penalty(theta):
        return jnp.sum(0.7 * jnp.sqrt(theta**2 + smooth**2) + 0.5 * 0.2 * theta**2)

    tx = jc.add_elastic_net(0.7, 0.2, smooth_l1=smooth)
    updates, _ = tx.update(jnp.zeros(3), tx.init(params), params)
    np.testing.assert_allclose(updates, jax.grad(penalty)(params), rtol=1e-12)
    alone = jc.add_l1_decay(0.7, smooth)
    with_l2 = jc.chain(alone, jc.add_decayed_weights(0.2))
    same, _ = with_l2.update(jnp.zeros(3), with_l2.init(params), params)
    np.testing.assert_allclose(same, updates, rtol=1e-12)


def test_decay_by_pattern_leaves_the_rest_alone():
    params = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    for tx in (
        jc.add_decayed_weights(0.1, "kernel"),
        jc.add_l1_decay(0.1, mask="kernel"),
        jc.add_elastic_net(0.05, 0.05, mask="kernel"),
        jc.add_decayed_weights(0.1, {"kernel": True, "bias": False}),
    ):
        updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
        np.testing.assert_allclose(updates["kernel"], 0.1, rtol=1e-6)
        np.testing.assert_array_equal(updates["bias"], 0)
    with pytest.raises(ValueError, match=r"^adamw: the pattern 'kernle' matches"):
        jc.adamw(0.1, mask="kernle").init(params)


@pytest.mark.parametrize(
    ("mask", "got"),
    [(3, "3"), ({"kernel": True, "bias": "x"}, "'x'"), (lambda _: "kernel", "'kernel'")],
    ids=["number", "tree", "function"],
)
def test_masks_of_other_things_than_bools(mask, got):
    with pytest.raises(ValueError, match=f"^add_decayed_weights: mask must be .*, got {got}$"):
        jc.add_decayed_weights(0.1, mask).init({"kernel": jnp.ones(2), "bias": jnp.ones(2)})
