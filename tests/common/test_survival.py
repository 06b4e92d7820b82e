"""Every state through a checkpoint and over several devices."""

import os
import subprocess
import sys

import chex
import jax
import optax
import orbax.checkpoint as ocp

from tests.common.test_states import gradients, optaxs_own_promotions, over
from tests.common.transformations import TRANSFORMATIONS, params

__all__ = ["optaxs_own_promotions"]  # for all tests of this file


def update_of(row):
    tx = optax.with_extra_args_support(row.make(*row.given()))
    update = jax.jit(lambda grads, state, params: tx.update(grads, state, params, **row.extra))
    return tx.init(params()), update


@over(TRANSFORMATIONS)
def test_states_go_through_orbax_and_flattening(row, tmp_path):
    first, second = gradients(params(), 2)
    state, update = update_of(row)
    _, state = update(first, state, params())
    leaves, treedef = jax.tree.flatten(state)
    chex.assert_trees_all_equal(treedef.unflatten(leaves), state)
    if leaves:  # Orbax refuses to write nothing
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "state", leaves)
            checkpointer.wait_until_finished()
            back = treedef.unflatten(checkpointer.restore(tmp_path / "state", leaves))
        chex.assert_trees_all_equal(back, state)
        chex.assert_trees_all_equal(update(second, back, params()), update(second, state, params()))


@over(TRANSFORMATIONS)
def test_states_keep_their_structure_and_compile_once(row):
    state, update = update_of(row)
    for grad in gradients(params(), 3):
        updates, after = update(grad, state, params())
        chex.assert_trees_all_equal_shapes_and_dtypes(updates, params())
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        state = after
    assert update._cache_size() == 1


SHARDED = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
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
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    ran = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "as on one device\n", ran.stderr
