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


@dataclasses.dataclass(frozen=True)
class Contents:
    """What is in a file."""

    root: Group
    is_legacy: bool
    config: dict[str, Any]  # of the model, which only a legacy file has


def contents(file: BinaryIO, max_bytes: int) -> Contents:
    """What is in a file, its arrays among it."""
    with tempfile.TemporaryFile() as output:
        _run(file, output, max_bytes)
        output.seek(0)
        about = json.loads(output.readline())
        if "unfit" in about:
            raise UnfitError(about["unfit"])
        arrays = [(path, np.dtype(dtype), shape) for path, dtype, shape in about["arrays"]]
        check_size(sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in arrays), max_bytes)
        root = Group()
        for path, given in about["groups"]:
            _put(root, path, group := Group())
            group.given = given
        for path, dtype, shape in arrays:
            numbers = np.fromfile(output, dtype, math.prod(shape)).reshape(shape)
            is_bfloat16 = dtype == np.dtype("V2")
            _put(root, path, numbers.view(ml_dtypes.bfloat16) if is_bfloat16 else numbers)
    return Contents(root, about["is_legacy"], json.loads(about["config"] or "{}"))


def _run(file: BinaryIO, output: BinaryIO, max_bytes: int) -> None:
    """Reads the file in a process of its own."""
    command = [sys.executable or "python3", "-P", str(_PROGRAM), str(max_bytes)]
    # The same libraries as here; the threads of one that is not used would take memory.
    settings = {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    seconds = _SECONDS + os.fstat(file.fileno()).st_size / 2**24
    try:
        ended = subprocess.run(
            command,
            stdin=file,
            stdout=output,
            stderr=subprocess.DEVNULL,
            env=os.environ | settings,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnfitError(f"is damaged: the HDF5 library had no end in {seconds:.0f} s") from None
    except OSError as error:
        raise UnfitError(f"was not read: no process of {command[0]} begins: {error}") from None
    if ended.returncode:
        raise UnfitError(f"is damaged: the HDF5 library fails (exit status {ended.returncode})")


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
