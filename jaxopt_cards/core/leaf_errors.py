"""Errors of one leaf, which name it by its path."""

from jax.tree_util import KeyPath

from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import path_name


class LeafMismatch(Exception):
    """What is wrong with one leaf; code that knows the tree adds the leaf's path."""

    def at(self, path: KeyPath) -> NamedError:
        """The error for the user; a tree that is a single leaf has no path to show."""
        return NamedError(f"at {path_name(path)} {self}" if path else str(self))
