"""Checkpoints of a run with Orbax, restored only into the same run."""

import zlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from jaxopt_cards.selection import listed, path_name

PyTree = Any


class Checkpoints:
    """The checkpoints of one run in one folder; the last few are kept."""

    def __init__(self, directory: Path, identity: dict[str, Any]):
        """`identity` is stored with each checkpoint, and must be the same to resume from one."""
        self._identity = identity
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        self._manager = ocp.CheckpointManager(directory.absolute(), options=options)

    def __enter__(self) -> Self:
        """For use in a `with` statement."""
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Waits until what was saved is on disk."""
        self._manager.close()

    def save(self, epoch: int, run: PyTree, history: list[list[float]]) -> None:
        """Writes a checkpoint, under a temporary name until it is whole."""
        arrays = _by_path(run)
        about = {"identity": self._identity, "arrays": _described(arrays), "history": history}
        self._manager.save(
            epoch,
            args=ocp.args.Composite(
                run=ocp.args.StandardSave(arrays), about=ocp.args.JsonSave(about)
            ),
        )

    def restore(self, like: PyTree) -> tuple[PyTree, list[list[float]]] | None:
        """The latest run saved and its history; `None` if there is none."""
        epoch = self._manager.latest_step()
        if epoch is None:
            return None
        about = self._manager.restore(epoch, args=ocp.args.Composite(about=ocp.args.JsonRestore()))[
            "about"
        ]
        target = _by_path(like)
        _check_arrays(_described(target), about["arrays"])
        self._check_identity(about["identity"])
        restored = self._manager.restore(
            epoch, args=ocp.args.Composite(run=ocp.args.StandardRestore(target))
        )["run"]
        leaves = [
            jax.random.wrap_key_data(array, impl=jax.random.key_impl(leaf))
            if _is_key(leaf)
            else array
            for array, leaf in zip(map(restored.get, target), jax.tree.leaves(like), strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(like), leaves), about["history"]

    def _check_identity(self, saved: dict[str, Any]) -> None:
        differing = [
            f"{name}: saved {saved.get(name)!r}, now {value!r}"
            for name, value in self._identity.items()
            if saved.get(name) != value
        ]
        if differing:
            raise ValueError(
                f"fit: checkpoint_dir {self._manager.directory} holds another run:"
                f"{listed(differing)}\nGive this run a folder of its own."
            )


def checksum(tree: PyTree) -> int:
    """CRC-32 of all arrays of a tree, one after the other."""
    crc = 0
    for leaf in jax.tree.leaves(tree):
        crc = zlib.crc32(np.asarray(_plain(leaf)).tobytes(), crc)
    return crc


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: jax.Array) -> jax.Array:
    """The array itself, or the integers behind a random key."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _by_path(tree: PyTree) -> dict[str, jax.Array]:
    """A flat dictionary: Orbax then has no containers to guess, and keys are plain integers."""
    return {
        path_name(path): _plain(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _described(arrays: dict[str, jax.Array]) -> list[str]:
    return [f"{path}: {array.dtype}{list(array.shape)}" for path, array in arrays.items()]


def _check_arrays(wanted: list[str], saved: list[str]) -> None:
    """Raises unless what was saved has the paths, shapes and dtypes of what is wanted."""
    if wanted != saved:
        raise ValueError(
            f"fit: the checkpoint is of another model or optimizer; only in it:"
            f"{listed(sorted(set(saved) - set(wanted)))}\nonly in this run:"
            f"{listed(sorted(set(wanted) - set(saved)))}"
        )
