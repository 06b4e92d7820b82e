"""HDF5 files as Keras writes them, read by `hdf5_process` in a process of its own."""

import dataclasses
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxopt_cards.transfer.files.apart import read_apart
from jaxopt_cards.transfer.files.foreign import UnfitError

_PROGRAM = Path(__file__).with_name("hdf5_process.py")


class Group(dict[str, Any]):
    """What is in a group, by name."""

    given: str | None = None  # the name that stands beside it
    is_layer = False  # in a legacy file


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is in a file."""

    root: Group
    is_legacy: bool
    config: str  # of the model, as JSON, which only a legacy file has
    version: str  # of Keras, as above


def contents(file: BinaryIO, max_bytes: int) -> Contents:
    """What is in a file, its arrays among it."""
    about, arrays = read_apart(
        _PROGRAM,
        str(max_bytes),
        file=file,
        size=os.fstat(file.fileno()).st_size,
        max_bytes=max_bytes,
        environment=_environment(),
    )
    root = Group()
    for path, given, is_layer in about["groups"]:
        _put(root, path, group := Group())
        group.given, group.is_layer = given, is_layer
    for path, array in arrays:
        _put(root, path, array)
    return Contents(root, about["is_legacy"], about["config"] or "", about["version"] or "")


def _environment() -> dict[str, str]:
    """The variables of the process, without those by which HDF5 would load a library.

    A file names the filters that compressed its bytes, and HDF5 loads a filter that it does not
    know from `HDF5_PLUGIN_PATH`. `"::"` turns that off, also for the names of groups, which are
    read before any filter can be checked.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HDF5_")}
    return inherited | {"HDF5_PLUGIN_PRELOAD": "::"}


def _put(root: Group, path: str, item: Any) -> None:
    """Puts a group or an array where it belongs; groups come before what is in them."""
    *groups, name = path.split("/")
    for group in groups:
        root = root[group]
    root[name] = item


def members(group: Any, path: str) -> dict[str, Any]:
    """What is in a group; nothing where there should be one and is an array."""
    if not isinstance(group, Group):
        raise UnfitError(f"has an array where layers should be, in {path[:60]!r}")
    return dict(group)


def checked(name: str, array: Any) -> np.ndarray:
    """An array, and no group."""
    if isinstance(array, Group):
        raise UnfitError(f"has layers where an array should be, in {name!r}")
    return array
