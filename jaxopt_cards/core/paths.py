"""Paths of leaves: the names of parameters, and the paths that share one parameter."""

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

    A Flax NNX variable adds an attribute `value` to the path of its array. It is left out, so that
    a parameter has the same name in NNX, in Linen and in plain dictionaries.
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

    Leaves are in the order of `jax.tree.leaves`. A Flax NNX variable may be in several places of a
    module, such as an embedding that is also the output layer; it is one parameter. Arrays in
    dictionaries are separate parameters, even if they are the same object: JAX does not keep that.
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
    """For each path of a Flax NNX variable, all of its paths.

    Modules may refer to modules that contain them, which `jax.tree` would follow forever.
    """
    places: dict[int, list[str]] = {}
    for path, variable in _variables(tree, (), ()):
        places.setdefault(id(variable), []).append(path_name(path))
    return {name: tuple(names) for names in places.values() for name in names}


def _variables(node: Any, path: KeyPath, above: tuple[int, ...]) -> Iterator[tuple[KeyPath, Any]]:
    """All variables in a module, each once per place."""
    if _is_variable(node):
        yield path, node
    elif id(node) not in above:
        found = jax.tree_util.default_registry.flatten_one_level_with_keys(node)
        for key, child in found[0] if found else ():
            yield from _variables(child, (*path, key), (*above, id(node)))


def _is_variable(node: Any) -> bool:
    """Whether it is a Flax NNX variable; if there is one, Flax is already imported."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(node, nnx.Variable)


def listed(paths: Iterable[str]) -> str:
    """Paths for an error message, one per line; a file may have any number of them."""
    first = list(itertools.islice(paths := iter(paths), _LISTED))
    rest = sum(1 for _ in paths)
    lines = [*map(escaped, first), *([f"and {rest} more"] if rest else [])]
    return "".join(f"\n  {line}" for line in lines) or "\n  (none)"
