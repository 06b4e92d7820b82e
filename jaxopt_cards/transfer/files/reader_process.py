"""What a process does that reads a foreign file apart: limits, a stream of arrays, one error.

`transfer._apart` starts such a process and reads what it writes: the arrays, one after the other,
then a JSON text that describes them, then the length of that text in eight bytes. Nothing but
Python's own library is imported here, so that the process starts quickly.
"""

import contextlib
import json
import struct
import sys
from collections.abc import Callable
from typing import Any

PIECE = 2**26  # bytes written at once: Linux takes no more than 2 GiB


class UnfitError(ValueError):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


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
    """Writes all of `data`: without a buffer, one call may write only a part of it."""
    rest = memoryview(data)
    while rest:
        rest = rest[file.write(rest[:PIECE]) :]


def answer(read: Callable[[Callable[[Any], None]], dict[str, Any]]) -> None:
    """Writes to standard output what `read` writes and returns, or what is wrong with the file.

    `read` is given the function that writes the bytes of an array. It returns `arrays`, the path,
    the dtype's name and the shape of each, and whatever else the reader wants to know.
    """
    output = sys.stdout.buffer
    try:
        about = read(lambda data: write_all(output, data))
    except UnfitError as error:
        about = {"unfit": str(error)}
    except Exception as error:  # damaged bytes make libraries raise all sorts
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        about = {"unfit": f"is damaged, or of another format: {reason}"}
    text = json.dumps(about).encode()
    write_all(output, text + struct.pack("<Q", len(text)))
