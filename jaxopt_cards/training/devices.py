"""Placement of arrays on several devices, by JAX's meshes and shardings."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import listed, path_name, path_names
from jaxopt_cards.selection import compiled
from jaxopt_cards.storage.arrays import is_key

PyTree = Any
Rules = Mapping[str, PartitionSpec]


class Placement:
    r"""How `fit` and `fit_many` spread a run over several devices.

    Every batch is spread over the mesh's first axis, and the losses are those of one device up to
    rounding. Parameters and optimizer state are replicated unless a rule matches. `fit_many`
    spreads its runs over all devices instead.

    Args:
        mesh: a `jax.sharding.Mesh`, also over several hosts.
        sharding: maps regular expressions over the parameters' paths to `PartitionSpec`, such as
            `{"kernel": P(None, "model")}`. The first match counts.

    Returns:
        A value for `placement=`.

    Raises:
        ValueError: `mesh` is not a mesh, or a rule is not a `PartitionSpec`; in `fit`, a rule
            matches no parameter or does not fit its shape.

    References:
        Yuanzhong Xu et al. (2021), GSPMD: General and Scalable Parallelization for ML Computation
        Graphs.

    Use when: a batch or the model is too large for one device, or there are several hosts.
    Avoid when: one device is enough; a mesh alone is equivalent to `Placement(mesh)`.

    Example:
        >>> import jax
        >>> from jax.sharding import PartitionSpec as P
        >>> from jaxopt_cards import training
        >>> mesh = jax.make_mesh((1, 1), ("data", "model"))
        >>> training.Placement(mesh, {"kernel": P(None, "model")}).mesh.axis_names
        ('data', 'model')
    """

    @declare
    def __init__(self, mesh: Mesh, sharding: Rules | None = None):
        """Checks the rules; the arguments are described with the class."""
        if not isinstance(mesh, Mesh):
            raise HyperparameterError("mesh", "be a jax.sharding.Mesh", mesh)
        # XLA chooses the shardings inside the program, whatever types the axes had.
        automatic = (AxisType.Auto,) * len(mesh.axis_names)
        self.mesh = Mesh(mesh.devices, mesh.axis_names, axis_types=automatic)
        for spec in (sharding or {}).values():
            if not isinstance(spec, PartitionSpec):
                raise HyperparameterError("sharding", "map to PartitionSpec", spec)
        self.has_rules = bool(sharding)
        self._rules = {compiled(key): spec for key, spec in (sharding or {}).items()}

    def batch(self, batch_size: int) -> NamedSharding:
        """How the rows of a batch are spread."""
        axis = self.mesh.axis_names[0]
        if batch_size % self.mesh.shape[axis]:
            expected = f"be a multiple of the {self.mesh.shape[axis]} devices along {axis!r}"
            raise HyperparameterError("batch_size", expected, batch_size)
        return NamedSharding(self.mesh, PartitionSpec(axis))

    def replicated(self, tree: PyTree) -> PyTree:
        """The tree, whole on every device."""
        sharding = NamedSharding(self.mesh, PartitionSpec())
        return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)

    def spread(self, tree: PyTree) -> PyTree:
        """A tree whose leaves have one more axis in front, spread over all devices."""
        sharding = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))
        return jax.tree.map(lambda leaf: _put(leaf, sharding), tree)

    def shardings(self, tree: PyTree, params: PyTree) -> PyTree:
        """The shardings of a tree of parameters and optimizer state, by the rules.

        A leaf is a parameter's if its path ends in the parameter's and it has the same shape; the
        rest is replicated.
        """
        shapes = dict(zip(path_names(params), map(jnp.shape, jax.tree.leaves(params)), strict=True))
        for pattern in self._rules:
            if not any(map(pattern.search, shapes)):
                raise NamedError(
                    f"sharding has {pattern.pattern!r}, which matches none of "
                    f"the paths{listed(shapes)}",
                )

        def of_leaf(path: Any, leaf: Any) -> NamedSharding:
            parts = path_name(path).split("/")
            ends = ["/".join(parts[i:]) for i in range(len(parts))]
            name = next((end for end in ends if shapes.get(end) == jnp.shape(leaf)), None)
            return self._of_parameter(name, jnp.shape(leaf))

        return jax.tree_util.tree_map_with_path(of_leaf, tree)

    def _of_parameter(self, name: str | None, shape: tuple[int, ...]) -> NamedSharding:
        specs = [spec for pattern, spec in self._rules.items() if name and pattern.search(name)]
        sharding = NamedSharding(self.mesh, specs[0] if specs else PartitionSpec())
        try:
            sharding.shard_shape(shape)
        except ValueError as error:
            raise NamedError(
                f"{name}, of shape {list(shape)}, cannot be sharded by the rule "
                f"{sharding.spec}: {error}",
            ) from None
        return sharding


def as_placement(placement: Any) -> Placement | None:
    """The placement that was given, or that of a mesh."""
    if placement is None or isinstance(placement, Placement):
        return placement
    if isinstance(placement, Mesh):
        return Placement(placement)
    raise HyperparameterError("placement", "be a Placement or a jax.sharding.Mesh", placement)


def placed(tree: PyTree, shardings: PyTree) -> PyTree:
    """The tree on its devices; arrays already there are not copied."""
    return jax.tree.map(
        lambda leaf, sharding: (
            leaf if getattr(leaf, "sharding", None) == sharding else _put(leaf, sharding)
        ),
        tree,
        shardings,
    )


def _put(leaf: Any, sharding: NamedSharding) -> Any:
    """An array on the devices of the mesh, some of which may be another process's."""
    if jax.process_count() == 1 or not getattr(leaf, "is_fully_addressable", True):
        return jax.device_put(leaf, sharding)
    # Only NumPy arrays can be shared between processes; each process has the same ones.
    if is_key(leaf):
        data = jax.device_put(np.asarray(jax.random.key_data(leaf)), sharding)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jax.device_put(np.asarray(leaf), sharding)
