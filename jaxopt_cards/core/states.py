"""States as NamedTuples of trees, made of one row for each leaf."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.precision import first_state, is_inexact
from jaxopt_cards.core.trees import PyTree, flatten, is_hole, leaves_like


class StateLayout:
    """How the state of each leaf, a row of arrays, is kept: one tree for each field.

    An equation takes and returns a row, or the array itself if there is only one field. The field
    `count` is the step counter, and in no row.
    """

    def __init__(self, state_type: Any):
        self.state_type = state_type
        self.fields = [field for field in state_type._fields if field != "count"]
        self._counts = "count" in state_type._fields

    def row(self, returned: Any) -> tuple:
        """What an equation returned, as a row."""
        return (returned,) if len(self.fields) == 1 else tuple(returned)

    def argument(self, row: tuple) -> Any:
        """A row as an equation takes it."""
        return row[0] if len(self.fields) == 1 else row

    def first_row(self, init: Callable[..., Any], leaf: Any, taken: dict[int, Any]) -> tuple:
        """The row of a parameter before the first step; `taken` is that of `owned`."""
        if is_hole(leaf):
            return (leaf,) * len(self.fields)
        if not is_inexact(leaf):
            return (optax.MaskedNode(),) * len(self.fields)
        row = self.row(first_state(init, leaf, taken))
        if len(row) != len(self.fields):
            raise NamedError(f"init must return {len(self.fields)} arrays, got {len(row)}")
        return row

    def state(self, count: Any, rows: list[tuple], treedef: Any) -> Any:
        """The state, from a row for each leaf."""
        columns = ([row[index] for row in rows] for index in range(len(self.fields)))
        trees = dict(zip(self.fields, map(treedef.unflatten, columns), strict=True))
        return self.state_type(**trees, **({"count": count} if self._counts else {}))

    def rows(self, state: Any, updates: PyTree) -> list[tuple]:
        """A row for each leaf of the updates."""
        if missing := [name for name in self.state_type._fields if not hasattr(state, name)]:
            got = f"{type(state).__name__}, which has no {missing[0]}"
            raise NamedError(f"state must be {self.state_type.__name__}, got {got}")
        columns = [leaves_like(updates, getattr(state, name), name) for name in self.fields]
        return list(zip(*columns, strict=True)) if columns else [()] * len(flatten(updates)[0])

    def next_count(self, state: Any) -> Any:
        """The number of this step; `None` if the state has no counter."""
        return optax.safe_increment(state.count) if self._counts else None


def found_states(state: PyTree, state_type: type) -> list:
    """The states of a type inside the state of a chain, in order; not those inside of them."""
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, state_type))
    return [leaf for leaf in leaves if isinstance(leaf, state_type)]


def found_state(state: PyTree, state_type: type) -> Any:
    """The one state of a type inside the state of a chain."""
    found = found_states(state, state_type)
    if len(found) != 1:
        got = f"{len(found)} in {type(state).__name__}"
        raise NamedError(f"state must hold one {state_type.__name__}, got {got}")
    return found[0]


def merged_leaves(params: PyTree, trees: list, name: str) -> list:
    """The leaves of the trees in states called `name`, of which each may have holes.

    Several states must be of different parameters, as those in `optax.partition` are. A list of
    all leaves may stand for a tree.
    """
    treedef: Any = jax.tree.structure(params)
    merged: list[Any] = [None] * treedef.num_leaves
    for tree in trees:
        if isinstance(tree, list) and len(tree) == treedef.num_leaves:
            tree = treedef.unflatten(tree)
        for index, leaf in enumerate(leaves_like(params, tree, f"the state {name}")):
            if is_hole(leaf):
                continue
            if not is_hole(merged[index]):
                raise NamedError(f"state must hold one {name} for each parameter, got several")
            if not is_inexact(leaf):
                got = f"{leaf.dtype}, as of compress_state"
                raise NamedError(f"the arrays in {name} must be of floating point, got {got}")
            merged[index] = leaf
    return merged
