"""HDF5 files of Keras, read by `hdf5_process` in a separate process."""

import dataclasses
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxopt_cards.transfer.files.apart import read_apart
from jaxopt_cards.transfer.files.foreign import UnfitError

_PROGRAM = Path(__file__).with_name("hdf5_process.py")


class Group(dict[str, Any]):
    """The members of a group, by name."""

    given: str | None = None  # the name in its attributes
    is_layer = False  # in a legacy file


@dataclasses.dataclass(frozen=True)
class Contents:
    """The contents of a file."""

    root: Group
    is_legacy: bool
    config: str  # of the model, as JSON; only in legacy files
    version: str  # of Keras; only in legacy files


def contents(file: BinaryIO, max_bytes: int) -> Contents:
    """Reads the contents of a file."""
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
    """The environment of the process, without variables that make HDF5 load a library.

    A file names the filters that compressed its bytes, and HDF5 loads unknown filters from
    `HDF5_PLUGIN_PATH`. `"::"` turns this off, also for names of groups, which are read before the
    filters can be checked.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HDF5_")}
    return inherited | {"HDF5_PLUGIN_PRELOAD": "::"}


def _put(root: Group, path: str, item: Any) -> None:
    """Inserts a group or an array; groups come before their members."""
    *groups, name = path.split("/")
    for group in groups:
        root = root[group]
    root[name] = item


def members(group: Any, path: str) -> dict[str, Any]:
    """The members of a group; raises if it is an array."""
    if not isinstance(group, Group):
        raise UnfitError(f"has an array where layers should be, in {path[:60]!r}")
    return dict(group)


def checked(name: str, array: Any) -> np.ndarray:
    """The array; raises if it is a group."""
    if isinstance(array, Group):
        raise UnfitError(f"has layers where an array should be, in {name!r}")
    return array
