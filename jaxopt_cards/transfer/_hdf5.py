"""HDF5 files as Keras writes them, read by `_hdf5_process` where nothing of it can do harm here."""

import dataclasses
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxopt_cards.transfer._foreign import UnfitError, check_size

_PROGRAM = Path(__file__).with_name("_hdf5_process.py")
_SECONDS = 60  # and one for each 16 MiB of the file


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
    with tempfile.TemporaryFile() as output:
        _run(file, output, max_bytes)
        about = _described(output)
        if "unfit" in about:
            raise UnfitError(about["unfit"])
        arrays = [(path, np.dtype(dtype), shape) for path, dtype, shape in about["arrays"]]
        check_size(sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in arrays), max_bytes)
        root = Group()
        for path, given, is_layer in about["groups"]:
            _put(root, path, group := Group())
            group.given, group.is_layer = given, is_layer
        output.seek(0)
        for path, dtype, shape in arrays:
            numbers = np.fromfile(output, dtype, math.prod(shape)).reshape(shape)
            is_bfloat16 = dtype == np.dtype("V2")
            _put(root, path, numbers.view(ml_dtypes.bfloat16) if is_bfloat16 else numbers)
    return Contents(root, about["is_legacy"], about["config"] or "", about["version"] or "")


def _described(output: BinaryIO) -> dict[str, Any]:
    """What the process says of the arrays, after them."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(size - 8, 0))
    length = int.from_bytes(output.read(8), "little")
    if size < 8 or length > size - 8:
        raise UnfitError("is damaged, or of another format: the HDF5 library ended too early")
    output.seek(size - 8 - length)
    return json.loads(output.read(length))


def _run(file: BinaryIO, output: BinaryIO, max_bytes: int) -> None:
    """Reads the file in a process of its own."""
    command = [sys.executable or "python3", "-P", str(_PROGRAM), str(max_bytes)]
    seconds = _SECONDS + os.fstat(file.fileno()).st_size / 2**24
    try:
        ended = subprocess.run(
            command,
            stdin=file,
            stdout=output,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnfitError(f"is damaged: the HDF5 library had no end in {seconds:.0f} s") from None
    except OSError as error:
        raise UnfitError(f"was not read: no process of {command[0]} begins: {error}") from None
    if ended.returncode:
        raise UnfitError(f"is damaged: the HDF5 library fails (exit status {ended.returncode})")


def _environment() -> dict[str, str]:
    """That of the process: the same libraries as here, and none that a file can name.

    A file says by which filters its bytes were compressed, and HDF5 would load a library that it
    does not know from `HDF5_PLUGIN_PATH`. `"::"` turns that off, for the names of groups, too,
    which are read before any filter can be checked.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HDF5_")}
    settings = {"PYTHONPATH": os.pathsep.join(sys.path), "HDF5_PLUGIN_PRELOAD": "::"}
    # The threads of a library that is not used would take memory.
    return inherited | settings | {"OPENBLAS_NUM_THREADS": "1"}


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
