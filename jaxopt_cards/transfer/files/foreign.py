"""Limits, errors and helpers of all readers of foreign files.

Readers raise `UnfitError` without the name of the file, which `opened` adds.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxopt_cards.core.checks import check_count, escaped, shown
from jaxopt_cards.core.errors import NamedError, NamedOSError
from jaxopt_cards.transfer.files.reader_process import UnfitError as UnfitError

DIMENSIONS = 64  # of NumPy's arrays
DEPTH = 64  # parts of a name, more than any network has
JSON = 2**20  # values, enough for 100,000 arrays
VALUES = 2**18  # enough for 60,000 arrays and an optimizer
SLACK = 2**22  # bytes of memory that a small file may take beyond `max_bytes`
GROUPS = 2**16  # groups of arrays
LETTERS = 2**22  # letters of all names together, enough for 60,000 arrays


@contextmanager
def opened(path: str | os.PathLike, max_bytes: int) -> Iterator[BinaryIO]:
    """Opens a file for a reader, and turns all errors into `NamedError` or `NamedOSError`."""
    check_count("max_bytes", max_bytes)
    at = escaped(path)
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise UnfitError("is not a file")
        file = Path(path).open("rb")  # noqa: SIM115 (errors while reading differ)
    except OSError as error:
        raise NamedOSError(f"{at}: {error.strerror}", error.errno) from None
    except UnfitError as error:
        raise NamedError(f"{at} {error}") from None
    except ValueError:  # zero bytes, lone surrogates
        raise NamedError(f"{at} is not a valid file name") from None
    with file:
        try:
            yield file
        except UnfitError as error:
            raise NamedError(f"{at} {escaped(error)}") from None
        except MemoryError:
            raise NamedError(f"{at} needs more memory than there is") from None
        except Exception as error:  # libraries raise any error for damaged bytes
            reason = escaped(str(error).partition("\n")[0], 200)
            raise NamedError(
                f"{at} is damaged, or of another format: {type(error).__name__}: {reason}"
            ) from error


def check_size(declared: int, max_bytes: int) -> None:
    """Raises before reading if the declared size exceeds the limit."""
    if declared > max_bytes:
        size = declared if declared < 2**64 else "more than 2**64"
        raise UnfitError(f"would take {size} bytes, and max_bytes is {max_bytes}")


def count_of(shape: Any, itemsize: int) -> int:
    """The number of elements of an array, after a check of its shape.

    Only tuples are accepted, since a list could change after the check.
    """
    if type(shape) is not tuple or len(shape) > DIMENSIONS:
        raise UnfitError(f"is damaged: a shape must be a tuple of at most {DIMENSIONS} sizes")
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise UnfitError("is damaged: a shape has sizes that are not whole numbers in [0, 2**63)")
    # NumPy refuses such sizes even if another one is zero.
    if math.prod(size or 1 for size in shape) * itemsize >= 2**63:
        raise UnfitError(f"is damaged: an array of shape {shape} is larger than any memory")
    return math.prod(shape)


def check_json(data: bytes | bytearray, memory: int) -> None:
    """Raises if the values of a JSON text could take more than `memory` bytes.

    A value of two letters, such as `{}`, takes sixty bytes or more. A string takes up to four bytes
    per letter, and is in memory twice, as a whole and in parts.
    """
    counts = {letter: data.count(letter) for letter in b"{[,"}
    if sum(counts.values()) > JSON:
        raise UnfitError(f"has JSON of more than {JSON} values")
    sizes = dict(zip(b"{[,", (250, 90, 60), strict=True))
    letters = len(data) * (1 if data.isascii() and b"\\u" not in data else 8)
    needed = letters + sum(counts[letter] * sizes[letter] for letter in counts)
    if needed > memory:
        raise UnfitError(f"has JSON that would take {needed} bytes of memory, more than {memory}")


def json_object(data: bytes | bytearray, memory: int) -> dict[str, Any]:
    """A JSON object without duplicate names, in at most about `memory` bytes."""
    check_json(data, memory)
    try:
        found = json.loads(data, object_pairs_hook=_once)
    except RecursionError:
        raise UnfitError("is damaged: its JSON is nested too deeply") from None
    except UnfitError:
        raise
    except ValueError as error:
        raise UnfitError(f"is damaged: its JSON cannot be read: {escaped(error, 100)}") from None
    if not isinstance(found, dict):
        raise UnfitError("is damaged: its JSON is not an object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dictionary of pairs; raises if a key occurs twice."""
    if len(pairs) > len(found := dict(pairs)):
        raise UnfitError("has a name twice in its JSON")
    return found


def kind_of(file: BinaryIO) -> str:
    """The kind of a file, by its first bytes."""
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    kinds = {
        b"PK": "a zip archive",
        b"\x89HDF": "an HDF5 file",
        b"\x93NUMPY": "a single array (.npy), which has no name",
        b"\x80": "a pickle, which is not opened since it could run any program",
        b"L1195470371460": "a pickle of PyTorch before 1.6",
    }
    if head[257:262] == b"ustar":
        return "a tar archive, as PyTorch before 0.2 wrote"
    if head[8:9] == b"{":
        return "a safetensors file"
    return next((kind for start, kind in kinds.items() if head.startswith(start)), "something else")


class Names:
    """Joins names, and limits their letters, since nested names can multiply without end."""

    def __init__(self) -> None:
        self._left = LETTERS

    def joined(self, *parts: str) -> str:
        """The path of a name in nested groups; empty parts are left out."""
        self._left -= sum(map(len, parts)) + len(parts)
        if self._left < 0:
            raise UnfitError(f"has names of more than {LETTERS} letters in all")
        return "/".join(part for part in parts if part)


def walked(
    tree: Mapping[Any, Any], is_wanted: Callable[[Any], bool], text: Callable[[Any], str] = str
) -> Iterator[tuple[str, Any]]:
    """The wanted values in nested dictionaries, by name."""
    names = Names()
    keys: list[Any] = []
    levels = [iter(tree.items())]
    for _ in range(VALUES):  # a dictionary may contain itself, or occur many times
        if (item := next(levels[-1], None)) is not None:
            key, value = item
            if isinstance(value, Mapping):
                if len(levels) > DEPTH:
                    break
                levels.append(iter(value.items()))
                keys.append(key)
            elif is_wanted(value):
                yield names.joined(*map(text, (*keys, key))), value
            continue
        levels.pop()
        if not levels:
            return
        keys.pop()
    raise UnfitError("has dictionaries that never end")


def nested(arrays: Iterable[tuple[str, np.ndarray]]) -> dict[str, Any]:
    """Arrays by paths such as `hidden1/kernel` as nested dictionaries."""
    tree: dict[str, Any] = {}
    made = 0  # groups; one with a name of two letters takes two hundred bytes
    for name, array in arrays:
        if (parts := name.count("/") + 1) > DEPTH:
            raise UnfitError(f"has a name of {parts} parts, {shown(name[:60])}…")
        *groups, last = name.split("/")
        node = tree
        for group in groups:
            if group not in node:
                made += 1
                if made > GROUPS:
                    raise UnfitError(f"has names of more than {GROUPS} groups")
            node = node.setdefault(group, {})
            if not isinstance(node, dict):
                raise UnfitError(f"has {shown(name)} inside what is an array itself")
        if last in node:
            raise UnfitError(f"has {shown(name)} twice")
        node[last] = array
    if not tree:
        raise UnfitError("holds no arrays")
    return tree


def with_slashes(arrays: Iterable[tuple[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by names with slashes; files of PyTorch and some of Flax have dots."""
    found: dict[str, np.ndarray] = {}
    for name, array in arrays:
        path = name.replace(".", "/")
        if path in found:
            raise UnfitError(f"has {shown(path)} twice")
        found[path] = array
    return found
