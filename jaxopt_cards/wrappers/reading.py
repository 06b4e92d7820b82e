"""States as their transformations read them: decoded and unpacked."""

from typing import Any

import jax

from jaxopt_cards.wrappers.compression import CompressedState, decompressed
from jaxopt_cards.wrappers.packing import Packed, unpack_params

PyTree = Any


def readable(state: PyTree) -> PyTree:
    """The state with the arrays behind the codes of `compress_state`, and packed trees unpacked."""

    def plain(node: Any) -> Any:
        if isinstance(node, CompressedState):
            return node._replace(inner_state=readable(decompressed(node)))
        return unpack_params(node) if isinstance(node, Packed) else node

    return jax.tree.map(
        plain, state, is_leaf=lambda node: isinstance(node, CompressedState | Packed)
    )
