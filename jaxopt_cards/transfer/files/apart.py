"""Files that a large library reads, in a process of its own: a damaged one can do no harm here.

See `_reader_process` for what that process does and writes.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes  # noqa: F401 (gives NumPy the names of its dtypes)
import numpy as np

from jaxopt_cards.transfer.files.foreign import UnfitError, check_size

SECONDS = 60  # and one for each 16 MiB to be read


def read_apart(
    program: Path,
    *arguments: str,
    file: BinaryIO | None = None,
    size: int,
    max_bytes: int,
    environment: Mapping[str, str] = os.environ,
) -> tuple[dict[str, Any], list[tuple[str, np.ndarray]]]:
    """What a program says of a file or folder, and the arrays in it by path.

    Args:
        program: one that calls `_reader_process.answer`.
        *arguments: the program's own.
        file: the program's standard input; none for a folder, which is an argument.
        size: bytes that may have to be read, for which the program is given time.
        max_bytes: the most that all arrays may take.
        environment: variables of the process.
    """
    with tempfile.TemporaryFile() as output:
        _run([str(program), *arguments], file, output, SECONDS + size / 2**24, environment)
        about = _description(output)
        if "unfit" in about:
            raise UnfitError(about["unfit"])
        arrays = [(path, np.dtype(dtype), shape) for path, dtype, shape in about["arrays"]]
        check_size(sum(dtype.itemsize * math.prod(shape) for _, dtype, shape in arrays), max_bytes)
        return about, list(_arrays(output, arrays))


def _run(
    command: list[str],
    file: BinaryIO | None,
    output: BinaryIO,
    seconds: float,
    environment: Mapping[str, str],
) -> None:
    """Runs a program of Python, with the same libraries as here."""
    # Threads that are not used would take memory, and so would a heap for each that is.
    settings = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    try:
        ended = subprocess.run(
            [sys.executable or "python3", "-P", *command],
            stdin=subprocess.DEVNULL if file is None else file,
            stdout=output,
            stderr=subprocess.DEVNULL,
            env={**environment, "PYTHONPATH": os.pathsep.join(sys.path), **settings},
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnfitError(f"is damaged: reading it did not finish within {seconds:.0f} s") from None
    except OSError as error:
        raise UnfitError(f"was not read: could not start Python: {error}") from None
    if ended.returncode:
        raise UnfitError(
            "is damaged, or needs more memory than its arrays: the process that read it ended with "
            f"status {ended.returncode}"
        )


def _description(output: BinaryIO) -> dict[str, Any]:
    """The JSON text that comes after the arrays."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(size - 8, 0))
    length = int.from_bytes(output.read(8), "little")
    if size < 8 or length > size - 8:
        raise UnfitError("is damaged, or of another format: the process that read it ended early")
    output.seek(size - 8 - length)
    return json.loads(output.read(length))


def _arrays(
    output: BinaryIO, arrays: list[tuple[str, np.dtype, list[int]]]
) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays, which come first, by path."""
    output.seek(0)
    for path, dtype, shape in arrays:
        # As bytes: NumPy reads no bfloat16.
        numbers = np.fromfile(output, np.uint8, dtype.itemsize * math.prod(shape))
        yield path, numbers.view(dtype).reshape(shape)
