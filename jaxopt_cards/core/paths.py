"""Paths of leaves: how a parameter is named, and which paths are one parameter."""

import itertools
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import jax
from jax.tree_util import GetAttrKey, KeyPath, keystr

from jaxopt_cards.core.checks import escaped

PyTree = Any

_LISTED = 500  # paths in a message; more than most networks have


def path_name(path: KeyPath) -> str:
    """The path of a leaf as users write it, such as `hidden1/kernel`.

    A Flax NNX variable adds an attribute `value` to the path of its array; it is left out, so that
    a parameter has one name in NNX, in Linen and in bare dictionaries.
    """
    return keystr(without_value(path), simple=True, separator="/")


def without_value(path: KeyPath) -> KeyPath:
    """The path without the attribute `value` of an NNX variable."""
    return path[:-1] if path and path[-1] == GetAttrKey("value") else path


def path_names(tree: PyTree) -> list[str]:
    """The paths of all leaves of a tree, in the order of `jax.tree.leaves`."""
    return [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def named(tree: PyTree) -> list[tuple[str, Any]]:
    """The leaves of a tree, each with its path."""
    return list(zip(path_names(tree), jax.tree.leaves(tree), strict=True))


def shared(tree: PyTree) -> list[tuple[int, tuple[str, ...]]]:
    """For each leaf, the number of the first leaf of the same parameter, and all of its paths.

    Leaves are in the order of `jax.tree.leaves`. A variable of Flax NNX may be in several places of
    a module, as an embedding that is the output layer, too; it is one parameter. Arrays of
    dictionaries are each their own, also if they are the same object: JAX does not keep that.
    """
    places: dict[Any, tuple[int, list[str]]] = {}
    keys: list[Any] = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_variable):
        for inner, _ in jax.tree_util.tree_leaves_with_path(leaf):
            number = len(keys)
            keys.append((id(leaf), keystr(inner)) if _is_variable(leaf) else number)
            places.setdefault(keys[-1], (number, []))[1].append(path_name((*path, *inner)))
    return [(places[key][0], tuple(places[key][1])) for key in keys]


def variable_names(tree: PyTree) -> dict[str, tuple[str, ...]]:
    """For each path of a variable of Flax NNX, all of its paths.

    Modules may refer to the ones around them, which `jax.tree` would follow without end.
    """
    places: dict[int, list[str]] = {}
    for path, variable in _variables(tree, (), ()):
        places.setdefault(id(variable), []).append(path_name(path))
    return {name: tuple(names) for names in places.values() for name in names}


def _variables(node: Any, path: KeyPath, above: tuple[int, ...]) -> Iterator[tuple[KeyPath, Any]]:
    """All variables in a module, once for each place that they are in."""
    if _is_variable(node):
        yield path, node
    elif id(node) not in above:
        found = jax.tree_util.default_registry.flatten_one_level_with_keys(node)
        for key, child in found[0] if found else ():
            yield from _variables(child, (*path, key), (*above, id(node)))


def _is_variable(node: Any) -> bool:
    """Whether it is a variable of Flax NNX; where there is one, Flax is imported already."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(node, nnx.Variable)


def listed(paths: Iterable[str]) -> str:
    """Paths for an error message: one a line, indented; a file may have any number of them."""
    first = list(itertools.islice(paths := iter(paths), _LISTED))
    rest = sum(1 for _ in paths)
    lines = [*map(escaped, first), *([f"and {rest} more"] if rest else [])]
    return "".join(f"\n  {line}" for line in lines) or "\n  (none)"
