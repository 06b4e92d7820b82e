"""Arrays sharded over a mesh with explicit axes, where JAX does not reshard by itself."""

import math

import jax
from jax.sharding import PartitionSpec


def is_spread(array: jax.Array) -> bool:
    """Whether its type has a sharding; without explicit axes it never has."""
    return any(part is not None for part in jax.typeof(array).sharding.spec)


def split_by(array: jax.Array, *parts: object) -> jax.Array:
    """The array sharded by these parts of a `PartitionSpec`; replicated if there are none."""
    if not is_spread(array):
        return array
    sharding = jax.typeof(array).sharding
    return jax.sharding.reshard(array, sharding.update(spec=PartitionSpec(*parts)))


def split_evenly(array: jax.Array, axis: int, pieces: int) -> jax.Array:
    """The array, with an axis sharded only if each device gets the same number of its pieces."""
    if not is_spread(array):
        return array
    sharding = jax.typeof(array).sharding
    parts = list(sharding.spec)
    names = parts[axis] if isinstance(parts[axis], tuple) else (parts[axis],)
    devices = math.prod(sharding.mesh.shape[name] for name in names if name is not None)
    if pieces == 0 or pieces % devices:
        parts[axis] = None
    return split_by(array, *parts)


def laid_out_like(array: jax.Array, like: jax.Array) -> jax.Array:
    """The array with the sharding of another array of its shape."""
    wanted = jax.typeof(like).sharding
    if jax.typeof(array).sharding == wanted or not (is_spread(array) or is_spread(like)):
        return array
    return jax.sharding.reshard(array, wanted)
