"""Conversion for storage: trees to plain arrays by path, values to JSON, and checksums of both."""

import errno
import json
import os
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import listed, path_name

PyTree = Any
MOST_METADATA = 2**26  # bytes of JSON that are read; about 200,000 arrays


def plain_arrays(tree: PyTree) -> dict[str, Any]:
    """The tree as a flat dictionary of arrays, for Orbax; random keys become integers."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    for path, leaf in leaves:
        if not isinstance(leaf, jax.Array | np.ndarray) or leaf.dtype == object:
            raise HyperparameterError(f"leaf {path_name(path)!r}", "be an array", leaf)
    arrays = {path_name(path): _plain(leaf) for path, leaf in leaves}
    if not arrays or len(arrays) < len(leaves):
        kind = "have arrays, each with its own path"
        raise HyperparameterError("the tree", kind, [path_name(path) for path, _ in leaves])
    return arrays


def with_keys(arrays: dict[str, Any], like: PyTree) -> PyTree:
    """Rebuilds the tree, with random keys where `like` has them."""
    leaves = [
        jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf)) if is_key(leaf) else array
        for array, leaf in zip(arrays.values(), jax.tree.leaves(like), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def described(tree: PyTree) -> list[str]:
    """Path, dtype and shape of every leaf."""
    return [
        f"{path_name(path)}: {leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


def checksum(tree: PyTree) -> int:
    """CRC-32 of all arrays of a tree in order."""
    crc = 0
    for leaf in jax.tree.leaves(tree):
        # As bytes, without a copy: zlib cannot read the buffer of bfloat16.
        plain = np.ascontiguousarray(_plain(leaf)).reshape(-1)
        crc = zlib.crc32(plain.view(np.uint8).data, crc)
    return crc


def json_checksum(value: Any) -> int:
    """CRC-32 of a value's JSON text; the same after a round trip."""
    return zlib.crc32(json.dumps(value).encode())


def as_json(argument: str, value: Any) -> Any:
    """The value after a round trip through JSON: tuples become lists, and keys strings."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        raise HyperparameterError(argument, "be what JSON can hold", value) from None


def check_same_arrays(saved: list[str], wanted: list[str]) -> None:
    """Raises unless the saved arrays have the same paths, shapes and dtypes."""
    if wanted != saved:
        raise NamedError(
            f"the checkpoint is of another model or optimizer; only in it:"
            f"{listed(sorted(set(saved) - set(wanted)))}\nonly in this run:"
            f"{listed(sorted(set(wanted) - set(saved)))}",
        )


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Differences between two dictionaries, compared as text because NaN is not equal to NaN."""
    return [
        f"{name}: saved {saved.get(name)!r}, now {now.get(name)!r}"
        for name in now | saved
        if json.dumps(saved.get(name)) != json.dumps(now.get(name))
    ]


def if_full(error: BaseException) -> str:
    """A hint for a write error that was caused by a full disk or quota."""
    full = (errno.ENOSPC, errno.EDQUOT)
    texts = [os.strerror(number) for number in full]  # tensorstore keeps only the text
    cause: BaseException | None = error
    while cause is not None:
        if getattr(cause, "errno", None) in full or any(text in str(cause) for text in texts):
            return " (the disk is full)"
        cause = cause.__cause__ or cause.__context__
    return ""


def is_key(leaf: Any) -> bool:
    """Whether it is a random key of JAX, which NumPy and Orbax do not support."""
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    """The array itself, or the integers behind a random key."""
    return jax.random.key_data(leaf) if is_key(leaf) else leaf
