"""What goes around any transformation: lookahead, averages, guards, probes, layer-wise rates."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_cards as jc

PARAMS = {
    "hidden1": {"kernel": jnp.full((2, 3), 2.0), "bias": jnp.zeros(3)},
    "logits": {"kernel": jnp.full((3, 2), -1.0), "bias": jnp.ones(2)},
}


def grads_like(params, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params)


def walk(tx, steps, params=PARAMS, update=None):
    """The parameters after each of so many steps, and the last state."""
    update = update or jax.jit(tx.update)
    state, path = tx.init(params), []
    for seed in range(steps):
        updates, state = update(grads_like(params, seed), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return path, state


@pytest.mark.parametrize("reset_state", [False, True])
def test_lookahead_equals_optax_pair_of_parameters(reset_state):
    theirs = optax.lookahead(optax.adam(0.1), 3, 0.5, reset_state)
    pair = optax.LookaheadParams.init_synced(PARAMS)
    state = theirs.init(pair)
    path, our_state = walk(jc.lookahead(jc.adam(0.1), 3, 0.5, reset_state), 10)
    for seed, ours in enumerate(path):
        with jax.numpy_dtype_promotion("standard"):
            updates, state = theirs.update(grads_like(PARAMS, seed), state, pair)
        pair = optax.apply_updates(pair, updates)
        chex.assert_trees_all_close(ours, pair.fast, rtol=1e-5, atol=1e-6)
    chex.assert_trees_all_close(our_state.slow, pair.slow, rtol=1e-5, atol=1e-6)


def test_polyak_averages_are_means_of_the_path():
    path, state = walk(jc.chain(jc.sgd(0.1), jc.polyak_average("uniform")), 6)
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 6, *path)
    chex.assert_trees_all_close(optax.tree.get(state, "average"), mean, rtol=1e-5, atol=1e-6)

    path, state = walk(jc.chain(jc.sgd(0.1), jc.polyak_average(0.5)), 3)
    weighted = jax.tree.map(lambda a, b, c: (a + 2 * b + 4 * c) / 7, *path)
    chex.assert_trees_all_close(optax.tree.get(state, "average"), weighted, rtol=1e-5, atol=1e-6)
    plain, _ = walk(jc.sgd(0.1), 3)
    chex.assert_trees_all_close(path[-1], plain[-1], rtol=1e-6)


def with_nan(grads, layer):
    bad = jax.tree.map(lambda g: g, grads)
    bad[layer]["bias"] = bad[layer]["bias"].at[0].set(jnp.nan)
    return bad


def test_skip_nonfinite_leaves_everything_untouched_counts_and_says_where():
    tx = jc.skip_nonfinite(jc.adam(0.1))
    update = jax.jit(tx.update)
    state = tx.init(PARAMS)
    _, state = update(grads_like(PARAMS, 0), state, PARAMS)
    updates, after = update(with_nan(grads_like(PARAMS, 1), "logits"), state, PARAMS)
    chex.assert_trees_all_equal(updates, jax.tree.map(jnp.zeros_like, PARAMS))
    chex.assert_trees_all_equal(after.inner_state, state.inner_state)
    assert jc.read_skips(after) == jc.SkipReport(1, 1, {"logits/bias": 1})
    expected, _ = jc.adam(0.1).update(grads_like(PARAMS, 2), state.inner_state, PARAMS)
    updates, after = update(grads_like(PARAMS, 2), after, PARAMS)
    chex.assert_trees_all_close(updates, expected, rtol=1e-6)
    assert jc.read_skips((after,)) == jc.SkipReport(1, 0, {"logits/bias": 1})


def test_skip_nonfinite_sees_what_the_inner_transformation_ruins():
    overflow = optax.GradientTransformation(
        lambda params: optax.EmptyState(),
        lambda updates, state, params=None: (jax.tree.map(lambda g: g * 1e38, updates), state),
    )
    tx = jc.skip_nonfinite(overflow)
    grads = {"a": jnp.ones(2), "b": jnp.full(2, 1e9)}
    updates, state = tx.update(grads, tx.init(grads))
    chex.assert_trees_all_equal(updates, {"a": jnp.zeros(2), "b": jnp.zeros(2)})
    assert jc.read_skips(state).leaves == {"b": 1}


def test_skip_nonfinite_gives_up_after_so_many_in_a_row():
    tx = jc.skip_nonfinite(jc.sgd(0.1), max_consecutive=2)
    state, bad = tx.init(PARAMS), with_nan(PARAMS, "hidden1")
    for skipped in (True, True, False):
        updates, state = tx.update(bad, state, PARAMS)
        assert bool(jnp.isfinite(updates["hidden1"]["bias"][0])) == skipped
    assert jc.read_skips(state).consecutive == 3


def test_probe_records_norms_of_the_last_steps_and_changes_nothing():
    tx = jc.chain(jc.clip(10.0), jc.probe(jc.adam(0.1), last=4, every=1))
    path, state = walk(tx, 6)
    plain, _ = walk(jc.chain(jc.clip(10.0), jc.adam(0.1)), 6)
    chex.assert_trees_all_equal(path[-1], plain[-1])
    read = jc.read_probes(state)
    assert list(read) == ["hidden1", "logits"]
    norm = lambda tree: float(optax.tree.norm(tree))  # noqa: E731
    for layer, probes in read.items():
        assert probes.step.tolist() == [3, 4, 5, 6]
        for index, step in enumerate(probes.step):
            before, now = path[step - 2][layer], path[step - 1][layer]
            moved = norm(jax.tree.map(jnp.subtract, now, before))
            grads = norm(grads_like(PARAMS, int(step) - 1)[layer])
            assert probes.gradient[index] == pytest.approx(grads, rel=1e-5)
            assert probes.update[index] == pytest.approx(moved, rel=1e-4)
            assert probes.ratio[index] == pytest.approx(moved / norm(before), rel=1e-4)


def test_probe_before_the_window_is_full_and_on_lone_leaves():
    tx = jc.probe(jc.sgd(0.5), last=10)
    params = {"w": jnp.array([3.0, 4.0])}
    _, state = tx.update(params, tx.init(params), params)
    probes = jc.read_probes(state)["w"]
    np.testing.assert_allclose([*probes.gradient, *probes.update, *probes.ratio], [5, 2.5, 0.5])


def test_probe_every_few_steps():
    tx = jc.probe(jc.sgd(0.5), last=2, every=3)
    _, state = walk(tx, 8)
    _, often = walk(jc.probe(jc.sgd(0.5), every=1), 8)
    for layer, probes in jc.read_probes(state).items():
        assert probes.step.tolist() == [4, 7]
        every_step = jc.read_probes(often)[layer]
        np.testing.assert_allclose(probes.ratio, every_step.ratio[[3, 6]], rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "layers"),
    [
        (
            lambda: jc.chain(jc.probe(jc.sgd(0.1)), jc.probe(jc.adam(0.1))),
            ["0/hidden1", "0/logits", "1/hidden1", "1/logits"],
        ),
        (
            lambda: jc.probe(jc.chain(jc.clip(1.0), jc.probe(jc.sgd(0.1)))),
            ["hidden1", "logits", "inner_state/1/hidden1", "inner_state/1/logits"],
        ),
        (lambda: jc.masked(jc.probe(jc.sgd(0.1)), {"hidden1": True, "logits": False}), ["hidden1"]),
        (
            lambda: jc.partition(
                {"a": jc.probe(jc.sgd(0.1)), "b": jc.probe(jc.sgd(0.2))},
                {"hidden1": "a", "logits": "b"},
            ),
            ["inner_states/a/inner_state/hidden1", "inner_states/b/inner_state/logits"],
        ),
    ],
    ids=["chain", "nested", "masked", "partition"],
)
def test_several_probes_are_read_by_their_paths(make, layers):
    _, state = walk(make(), 2)
    read = jc.read_probes(state)
    assert list(read) == layers
    for name, probes in read.items():
        first = grads_like(PARAMS, 0)[name.split("/")[-1]]
        # The second probe of the chain sees the updates of the first.
        expected = optax.tree.norm(first) * (0.1 if name.startswith("1/") else 1)
        if not name.startswith("inner_state/"):  # clipped
            assert probes.gradient[0] == pytest.approx(float(expected), rel=1e-5)


def test_probe_copies_no_weights_in_a_compiled_loop():
    params = {"a": {"kernel": jnp.ones((300, 200))}, "b": {"kernel": jnp.ones((200, 10))}}
    tx = jc.probe(jc.adam(0.1))

    def step(carry, x):
        params, state = carry
        grads = jax.grad(lambda p: jnp.tanh(x @ p["a"]["kernel"] @ p["b"]["kernel"]).sum())(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    run = jax.jit(lambda carry, xs: jax.lax.scan(step, carry, xs)[0], donate_argnums=0)
    text = run.lower((params, tx.init(params)), jnp.ones((50, 20, 300))).compile().as_text()
    assert "f32[300,200]" in text
    assert not re.search(r"= f32\[300,200\]\S* copy\(", text)


def test_layerwise_decay_scales_by_depth():
    tx = jc.layerwise_decay(jc.sgd(1.0), 0.1, ["hidden1", "logits"])
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_close(updates["logits"], jax.tree.map(jnp.negative, PARAMS["logits"]))
    scaled = jax.tree.map(lambda p: -0.1 * p, PARAMS["hidden1"])
    chex.assert_trees_all_close(updates["hidden1"], scaled, rtol=1e-6)


def test_layerwise_decay_with_holes():
    params = {"hidden1": None, "logits": jnp.ones(2)}
    tx = jc.layerwise_decay(jc.sgd(1.0), 0.1, ["hidden1", "logits"])
    updates, _ = tx.update(params, tx.init(params), params)
    assert updates["hidden1"] is None


def test_reduce_on_plateau_equals_optax_and_wants_a_value():
    settings = {"factor": 0.5, "patience": 2, "cooldown": 1, "accumulation_size": 2}
    ours, theirs = jc.reduce_on_plateau(**settings), optax.contrib.reduce_on_plateau(**settings)
    params = jnp.ones(2)
    our_state, their_state = ours.init(params), theirs.init(params)
    update = jax.jit(ours.update)
    for value in (3.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0):
        our_updates, our_state = update(params, our_state, params, value=value)
        with jax.numpy_dtype_promotion("standard"):
            updates, their_state = theirs.update(
                params, their_state, params, value=jnp.array(value)
            )
        chex.assert_trees_all_close((our_updates, our_state), (updates, their_state))
    assert our_state.scale < 1
    with pytest.raises(ValueError, match="reduce_on_plateau: needs the loss, got no value"):
        ours.update(params, our_state)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jc.lookahead(jc.sgd(0.1), 0), "lookahead: sync_period must be a whole number >="),
        (lambda: jc.lookahead(jc.sgd(0.1), 5, 1.5), r"slow_step_size must lie in \(0, 1\], got"),
        (lambda: jc.polyak_average("mean"), 'decay must be a number in .* or "uniform", got'),
        (lambda: jc.polyak_average(1.0), r"polyak_average: decay must lie in \[0, 1\), got 1.0"),
        (lambda: jc.skip_nonfinite(jc.sgd(0.1), -1), "max_consecutive must be a whole number >= 0"),
        (lambda: jc.probe(jc.sgd(0.1), 0), "probe: last must be a whole number >= 1, got 0"),
        (lambda: jc.read_probes(()), "read_probes: state must hold one ProbeState, got 0 in tuple"),
        (lambda: jc.read_skips(()), "read_skips: state must hold one SkipNonfiniteState, got 0"),
        (lambda: jc.layerwise_decay(jc.sgd(0.1), 2.0, ["a"]), r"decay must lie in \(0, 1\]"),
        (lambda: jc.layerwise_decay(jc.sgd(0.1), 0.5, "abc"), "order must be a list of patterns"),
        (
            lambda: jc.layerwise_decay(jc.sgd(0.1), 0.5, ["hiden1", "logits"]).init(PARAMS),
            r"none or several match:\n  hidden1/bias\n  hidden1/kernel$",
        ),
        (lambda: jc.reduce_on_plateau(factor=1.0), r"factor must lie in \(0, 1\), got 1.0"),
        (lambda: jc.reduce_on_plateau(rtol=0.0), r"atol must lie in \(0, inf\), got 0.0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "tx", [jc.lookahead(jc.sgd(0.1)), jc.polyak_average(), jc.probe(jc.sgd(0.1))]
)
def test_parameters_are_needed(tx):
    with pytest.raises(ValueError, match="needs the parameters, got params=None"):
        tx.update(PARAMS, tx.init(PARAMS))


@pytest.mark.parametrize(
    "wrapper",
    [
        jc.lookahead,
        jc.skip_nonfinite,
        jc.probe,
        jc.compress_state,
        jc.pack_small_leaves,
        lambda inner: jc.layerwise_decay(inner, 0.5, ["a"]),
    ],
    ids=lambda wrapper: wrapper.__name__.strip("<>"),
)
def test_wrappers_name_what_is_no_transformation(wrapper):
    with pytest.raises(ValueError, match=r"\w+: (inner|fast) must be a gradient transformation"):
        wrapper(jc.adam)


def test_compressed_states_of_another_layout_are_refused():
    tx = jc.compress_state(jc.adam(0.1))
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match=r"^compress_state: state must be .* got Ema"):
        tx.update(PARAMS, optax.EmaState(state.count, state.inner_state), PARAMS)
    with pytest.raises(ValueError, match=r"^compress_state: state must have scales .* got 0 for"):
        tx.update(PARAMS, state._replace(scales=()), PARAMS)
