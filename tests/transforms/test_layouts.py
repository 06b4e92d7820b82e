"""State in fewer bits, and small leaves in one array: the same training, less of it."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training
from jaxopt_cards.wrappers import compression
from tests.common.table import OPTIMIZERS
from tests.common.test_laws import gradients, tree, walked

SIZE = 20_000
ADAM = jc.adam(1e-3)


def numbers(seed, spread):
    """Numbers of both signs, of sizes over many orders of magnitude."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=SIZE) * np.exp(spread * rng.normal(size=SIZE)), jnp.float32)


def through_16(key, x):
    return compression._to_bfloat16(key, x).astype(jnp.float32)


def through_8(key, x):
    return compression._decoded(*compression._encoded(key, x, 256))


@pytest.mark.parametrize(
    ("code", "step"), [(through_16, 2**-7), (through_8, 2**0.2 - 1)], ids=["16", "8"]
)
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_a_code_is_near_and_right_on_average(code, step, spread):
    x = numbers(0, spread)
    keys = jax.random.split(jax.random.key(1), 400)
    read = jax.jit(jax.vmap(code, (0, None)))(keys, x)
    sure = jnp.abs(x) > 1e-6 * jnp.abs(x).max()  # the least magnitudes are rounded up
    off = (jnp.abs(read - x[None]) / jnp.abs(x)[None])[:, sure]
    assert off.max() < step * 1.001
    mean = read.mean(axis=0)
    # The deviation of the mean of 400 is at most half a step / 20; five of them, of 20,000.
    assert (jnp.abs(mean - x) / jnp.abs(x))[sure].max() < 5 * step / 40
    assert (jnp.sign(read) == jnp.sign(x)[None]).all()


@pytest.mark.parametrize("code", [through_16, through_8])
def test_zeros_stay_and_what_is_not_zero_does_not_vanish(code):
    x = jnp.zeros(512).at[::7].set(1e-30).at[3].set(-1.0)
    read = code(jax.random.key(0), x)
    chex.assert_trees_all_equal(read == 0, x == 0)
    assert read[3] == -1.0


@pytest.mark.parametrize("code", [through_16, through_8])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_shows(code, bad):
    assert not np.isfinite(code(jax.random.key(0), jnp.ones(300).at[5].set(bad))).all()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("make", [jc.adam, optax.adam, jc.momentum], ids=["ours", "optax", "sgd"])
def test_large_arrays_are_compressed_small_ones_and_counts_are_not(bits, make):
    params = {"kernel": jnp.ones((100, 100)), "bias": jnp.ones(100)}
    tx = jc.compress_state(make(0.1), bits=bits)
    plain = make(0.1)
    states = [tx.init(params).inner_state, plain.init(params)]
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(state)) for state in states]
    assert sizes[0] < sizes[1] * (0.52 if bits == 16 else 0.28)
    with jax.numpy_dtype_promotion("standard"):  # Optax divides float32 by int32
        updates, state = jax.jit(tx.update)(params, tx.init(params), params)
        again, same = jax.jit(tx.update)(params, tx.init(params), params)
        expected, _ = plain.update(params, plain.init(params), params)
    chex.assert_trees_all_close(updates, expected, rtol=1e-6)
    chex.assert_trees_all_equal((updates, state), (again, same))


@pytest.mark.parametrize("bits", [8, 16])
def test_compressed_state_trains_the_chapters_network_as_well(bits):
    compressed = accuracy(jc.compress_state(ADAM, bits=bits, min_size=1000))
    assert compressed > accuracy(ADAM) - 0.015


@functools.cache
def accuracy(tx):
    """Of the chapter's network on the digits."""
    splits = data.digits()
    net = layers.MLP(64, 10, rngs=nnx.Rngs(0))
    settings = {"train": splits.train, "valid": splits.valid, "epochs": 12, "progress": False}
    return training.evaluate(training.fit(net, tx, **settings).model, *splits.test)["accuracy"]


@pytest.mark.parametrize("case", OPTIMIZERS, ids=lambda case: case.name)
def test_packed_equals_unpacked(case):
    params, grads = tree(0), gradients(3)
    packed, _ = walked(jc.pack_small_leaves(case.make(0.05), max_size=8), params, grads)
    alone, _ = walked(case.make(0.05), params, grads)
    chex.assert_trees_all_close(packed, alone, rtol=1e-6, atol=1e-7)


def test_packing_keeps_dtypes_shapes_and_large_leaves():
    params = {
        "a": jnp.ones((2, 3), jnp.bfloat16),
        "b": None,
        "c": jnp.ones(()),
        "d": jnp.ones((4, 5)),
        "e": jnp.ones(2),
    }
    tx = jc.pack_small_leaves(jc.trace(0.9), max_size=6)
    state = tx.init(params)
    assert [leaf.shape for leaf in state.trace.small] == [(6,), (3,)]
    assert [leaf.shape for leaf in state.trace.large] == [(4, 5)]
    updates, _ = tx.update(params, state, params)
    chex.assert_trees_all_equal(updates, params)
    everything = jc.pack_small_leaves(jc.adamw(0.1))
    everything.update(params, everything.init(params), params)
    assert jc.pack_small_leaves(jc.adam(0.1)).init({}) is not None


def test_packing_inside_of_flax_optimizer():
    """It shows `init` the parameters as `nnx.Param`s, and `update` their arrays."""
    packed, alone = (layers.MLP(3, 2, units=(4,), rngs=nnx.Rngs(0)) for _ in range(2))
    adam = jc.adam(0.1)
    for model, tx in ((packed, jc.pack_small_leaves(adam)), (alone, adam)):
        optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
        for _ in range(2):
            optimizer.update(model, nnx.state(model, nnx.Param))
    chex.assert_trees_all_equal(*(nnx.to_pure_dict(nnx.state(m)) for m in (packed, alone)))


def test_packing_refuses_parameters_unlike_the_updates():
    tx, updates = jc.pack_small_leaves(jc.adam(0.1)), {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match=r"^pack_small_leaves: the updates .*\n  a\n.*\n  b$"):
        tx.update(updates, tx.init(updates), {"b": jnp.ones(2)})


KERNELS = lambda params: jax.tree.map(lambda p: p.ndim > 1, params)  # noqa: E731


@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (jc.clip_by_global_norm(1.0), "must be element-wise, but it computes"),
        (jc.chain(jc.adam(0.1), jc.clip_by_block_rms(1.0)), "but it computes reduce_sum"),
        (optax.adafactor(0.1), "pack_small_leaves:"),
        (jc.max_norm(1.0), "treats arrays of the shape .* differently from vectors|it computes"),
        (optax.centralize(), "treats arrays of the shape .* differently from vectors|it computes"),
        (optax.add_noise(0.1, 0.5, 0), "must be element-wise, but"),
        (jc.adamw(0.1, mask=KERNELS), "has a mask or a partition, .*masked\\(pack_small_leaves"),
        (jc.add_decayed_weights(0.1, mask="kernel"), "cannot know whether .* matches none of"),
        (
            optax.partition({"a": jc.sgd(0.1)}, lambda p: jax.tree.map(lambda _: "a", p)),
            "has a mask or a partition",
        ),
        (jc.magnitude_prune(sparsity=0.5), "but it computes"),
        (
            optax.stateless(lambda updates, params: jax.tree.map(lambda g: g * g.ndim, updates)),
            "treats arrays of the shape|cannot know",
        ),
    ],
)
def test_packing_refuses_what_is_not_elementwise(inner, message):
    params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3), "scale": jnp.ones(())}
    with (
        jax.numpy_dtype_promotion("standard"),
        pytest.raises(ValueError, match=f"^pack_small_leaves: .*{message}|^{message}"),
    ):
        jc.pack_small_leaves(inner).init(params)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jc.compress_state(jc.sgd(0.1), bits=4), "bits must be 16 or 8, got 4"),
        (lambda: jc.compress_state(jc.sgd(0.1), block_size=0), "block_size must be a whole number"),
        (lambda: jc.compress_state(jc.sgd(0.1), min_size=0), "min_size must be a whole number"),
        (lambda: jc.compress_state(jc.sgd(0.1), key=3), "key must be made by jax.random.key"),
        (lambda: jc.pack_small_leaves(jc.sgd(0.1), 0), "max_size must be a whole number >= 1"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
