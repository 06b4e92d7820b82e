"""Folders of Orbax, read by `_orbax_process` where nothing in them can do harm here."""

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes  # noqa: F401 (gives NumPy the names of its dtypes)
import numpy as np

from jaxopt_cards.transfer._foreign import UnfitError, check_size

_PROGRAM = Path(__file__).with_name("_orbax_process.py")
_SECONDS = 60  # and one for each 16 MiB that may be read


def arrays_in(folder: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of a folder by path."""
    with tempfile.TemporaryFile() as output:
        _run(folder, output, max_bytes)
        about = _described(output)
        if "unfit" in about:
            raise UnfitError(about["unfit"])
        arrays = [(path, np.dtype(dtype), shape) for path, dtype, shape in about["arrays"]]
        check_size(sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in arrays), max_bytes)
        output.seek(0)
        found: dict[str, np.ndarray] = {}
        for path, dtype, shape in arrays:
            path = path.removesuffix("/value")  # below each parameter in a state of NNX
            if path in found:
                raise UnfitError(f"has {path!r} twice")
            # As bytes: NumPy reads no bfloat16.
            numbers = np.fromfile(output, np.uint8, dtype.itemsize * math.prod(shape))
            found[path] = numbers.view(dtype).reshape(shape)
    return found


def _run(folder: Path, output: BinaryIO, max_bytes: int) -> None:
    """Reads the folder in a process of its own."""
    command = [sys.executable or "python3", "-P", str(_PROGRAM), str(folder), str(max_bytes)]
    # Threads that are not used would take memory, and so would a heap for each that is.
    settings = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    seconds = _SECONDS + max_bytes / 2**24
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | settings,
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnfitError(f"is damaged: it was not read within {seconds:.0f} s") from None
    except OSError as error:
        raise UnfitError(f"was not read: could not start Python: {error}") from None
    if ended.returncode:
        raise UnfitError(
            "is damaged, or needs more memory than its arrays: the process that read it ended with "
            f"status {ended.returncode}"
        )


def _described(output: BinaryIO) -> dict[str, Any]:
    """What the process says of the arrays, after them."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(size - 8, 0))
    length = int.from_bytes(output.read(8), "little")
    if size < 8 or length > size - 8:
        raise UnfitError("is damaged: the process that read it ended too early")
    output.seek(size - 8 - length)
    return json.loads(output.read(length))
