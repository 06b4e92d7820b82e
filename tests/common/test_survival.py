"""Every state through a checkpoint and over several devices."""

import os
import subprocess
import sys

import chex
import jax
import orbax.checkpoint as ocp
import pytest

import jaxopt_cards as jc
from tests.common.table import OPTIMIZERS
from tests.common.test_laws import gradients, tree, walked

WRAPPED = {
    "skip_nonfinite": jc.skip_nonfinite(jc.adam(0.05)),
    "probe": jc.probe(jc.adam(0.05), last=3),
    "16 bits": jc.compress_state(jc.adam(0.05), min_size=4),
    "8 bits": jc.compress_state(jc.adam(0.05), bits=8, min_size=4),
    "packed": jc.pack_small_leaves(jc.adam(0.05)),
    "polyak_average": jc.chain(jc.adam(0.05), jc.polyak_average()),
    "magnitude_prune": jc.chain(jc.adam(0.05), jc.magnitude_prune(0.1)),
    "max_norm by pattern": jc.chain(jc.adam(0.05), jc.max_norm(1.0, pattern="kernel")),
    "true nesterov": jc.scale_by_true_nesterov(lambda step: 0.05),
    "layerwise_decay": jc.layerwise_decay(jc.adam(0.05), 0.5, ["hidden1", "scale"]),
}
TRANSFORMATIONS = [pytest.param(case.make(0.05), id=case.name) for case in OPTIMIZERS]
TRANSFORMATIONS += [pytest.param(tx, id=name) for name, tx in WRAPPED.items()]


@pytest.mark.parametrize("tx", TRANSFORMATIONS)
def test_states_go_through_orbax_and_flattening(tx, tmp_path):
    params, grads = tree(0), gradients(2)
    _, state = walked(tx, params, grads[:1])
    leaves, treedef = jax.tree.flatten(state)
    chex.assert_trees_all_equal(treedef.unflatten(leaves), state)
    if leaves:  # Orbax refuses to write nothing
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "state", leaves)
            checkpointer.wait_until_finished()
            back = treedef.unflatten(checkpointer.restore(tmp_path / "state", leaves))
        chex.assert_trees_all_equal(back, state)
        chex.assert_trees_all_equal(
            tx.update(grads[1], back, params), tx.update(grads[1], state, params)
        )


@pytest.mark.parametrize("name", sorted(WRAPPED))
def test_wrappers_keep_structure_and_compile_once(name):
    params, tx = tree(0), WRAPPED[name]
    update = jax.jit(tx.update)
    state = tx.init(params)
    for grad in gradients(3):
        updates, after = update(grad, state, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, params)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        state = after
    assert update._cache_size() == 1


SHARDED = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
import jaxopt_cards as jc
from tests.common.table import OPTIMIZERS
from tests.common.test_laws import walked

mesh = jax.make_mesh((4,), ("rows",))
rows = NamedSharding(mesh, P("rows"))
params = {"kernel": jnp.arange(32.0).reshape(8, 4) / 32, "bias": jnp.ones(8)}
grads = [jax.tree.map(lambda p: (p - 0.3) * seed, params) for seed in (1.0, 2.0)]
for case in OPTIMIZERS:
    tx = case.make(0.05)
    spread = jax.device_put(params, rows)
    after, state = walked(tx, spread, [jax.device_put(grad, rows) for grad in grads])
    alone, _ = walked(tx, params, grads)
    for ours, theirs in zip(jax.tree.leaves(after), jax.tree.leaves(alone)):
        assert jnp.allclose(ours, theirs, rtol=1e-5, atol=1e-6), case.name
    for start in (tx.init(spread), state):
        for leaf in jax.tree.leaves(start):
            assert leaf.ndim == 0 or leaf.sharding.is_equivalent_to(rows, leaf.ndim), case.name
print("as on one device")
"""


def test_states_are_laid_out_like_their_parameters():
    ran = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "as on one device\n", ran.stderr
