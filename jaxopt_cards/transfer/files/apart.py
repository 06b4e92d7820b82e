"""Reading of files with large libraries in a separate process, which contains any damage.

See `reader_process` for the output of that process.
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

import ml_dtypes  # noqa: F401 (registers its dtypes with NumPy)
import numpy as np

from jaxopt_cards.transfer.files.foreign import UnfitError, check_size

SECONDS = 60  # plus one for each 16 MiB to read


def read_apart(
    program: Path,
    *arguments: str,
    file: BinaryIO | None = None,
    size: int,
    max_bytes: int,
    environment: Mapping[str, str] = os.environ,
) -> tuple[dict[str, Any], list[tuple[str, np.ndarray]]]:
    """The description of a file or folder by a program, and its arrays by path.

    Args:
        program: a program that calls `reader_process.answer`.
        *arguments: the arguments of the program.
        file: the standard input of the program; none for a folder, which is an argument.
        size: bytes that may have to be read, which determine the time limit.
        max_bytes: the limit for the bytes of all arrays.
        environment: environment variables of the process.
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
    """Runs a Python program with the same libraries as this process."""
    # Idle threads would take memory, and so would a separate heap for each thread.
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
    """The JSON text after the arrays."""
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
    """The arrays by path; they come first."""
    output.seek(0)
    for path, dtype, shape in arrays:
        # As bytes: NumPy cannot read bfloat16.
        numbers = np.fromfile(output, np.uint8, dtype.itemsize * math.prod(shape))
        yield path, numbers.view(dtype).reshape(shape)
