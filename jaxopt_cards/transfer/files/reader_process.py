"""Limits and output of a process that reads a foreign file.

`apart` starts such a process and reads its output: the arrays one after another, a JSON text that
describes them, and the length of that text in eight bytes. Only the standard library is imported
here, so that the process starts quickly.
"""

import contextlib
import json
import struct
import sys
from collections.abc import Callable
from typing import Any

PIECE = 2**26  # bytes per write; Linux allows at most 2 GiB


class UnfitError(ValueError):
    """What is wrong with a file, as a sentence without its subject, the file."""


def limit_memory(kind: str, most: int) -> None:
    """Sets `RLIMIT_AS` or `RLIMIT_DATA`, which Linux enforces; Windows has no such limit."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        limit = getattr(resource, kind)
        _, hard = resource.getrlimit(limit)
        hard = 2**62 if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(limit, (min(most, hard), hard))


def write_all(file: Any, data: Any) -> None:
    """Writes all of `data`, since one unbuffered call may write only a part."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest[:PIECE]) :]


def answer(read: Callable[[Callable[[Any], None]], dict[str, Any]]) -> None:
    """Writes the arrays and the description from `read` to standard output, or an error.

    `read` gets a function that writes the bytes of an array. It returns a dictionary with `arrays`,
    the path, the dtype's name and the shape of each, and other entries for the reader.
    """
    output = sys.stdout.buffer
    try:
        about = read(lambda data: write_all(output, data))
    except UnfitError as error:
        about = {"unfit": str(error)}
    except Exception as error:  # libraries raise any error for damaged bytes
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        about = {"unfit": f"is damaged, or of another format: {reason}"}
    text = json.dumps(about).encode()
    write_all(output, text + struct.pack("<Q", len(text)))
