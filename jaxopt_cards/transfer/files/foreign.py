"""What the readers of foreign files share: limits, and errors that name function and file.

Readers raise `UnfitError` with what they found; `opened` adds the function and the file.
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
DEPTH = 64  # names of more parts than any network has
JSON = 2**20  # values, those of 100,000 arrays
VALUES = 2**18  # those of 60,000 arrays and of an optimizer
SLACK = 2**22  # bytes of memory that a small file may take beyond `max_bytes`
GROUPS = 2**16  # that arrays are in
LETTERS = 2**22  # of all names together: those of 60,000 arrays


@contextmanager
def opened(path: str | os.PathLike, max_bytes: int) -> Iterator[BinaryIO]:
    """Opens a file for a reader, and makes one kind of error of all that can be wrong in it."""
    check_count("max_bytes", max_bytes)
    at = escaped(path)
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise UnfitError("is not a file")
        file = Path(path).open("rb")  # noqa: SIM115 (errors while reading are others)
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
        except Exception as error:  # damaged bytes make the libraries raise all sorts
            reason = escaped(str(error).partition("\n")[0], 200)
            raise NamedError(
                f"{at} is damaged, or of another format: {type(error).__name__}: {reason}"
            ) from error


def check_size(declared: int, max_bytes: int) -> None:
    """Raises if more would be read than was allowed; before it is read."""
    if declared > max_bytes:
        size = declared if declared < 2**64 else "more than 2**64"
        raise UnfitError(f"would take {size} bytes, and max_bytes is {max_bytes}")


def count_of(shape: Any, itemsize: int) -> int:
    """How many numbers an array has, after a check of its shape.

    Only tuples are taken: a list could change after it was checked.
    """
    if type(shape) is not tuple or len(shape) > DIMENSIONS:
        raise UnfitError(f"is damaged: a shape must be a tuple of at most {DIMENSIONS} sizes")
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise UnfitError("is damaged: a shape has sizes that are not whole numbers in [0, 2**63)")
    # NumPy refuses sizes beyond its own also where another one is zero.
    if math.prod(size or 1 for size in shape) * itemsize >= 2**63:
        raise UnfitError(f"is damaged: an array of shape {shape} is larger than any memory")
    return math.prod(shape)


def check_json(data: bytes | bytearray, memory: int) -> None:
    """Raises if what JSON makes of a text could take more memory.

    A value of two letters, such as `{}`, takes sixty bytes and more. A text takes four bytes a
    letter if one of them needs as many, and is in memory once whole and once in pieces.
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
    """An object in JSON, in which no name comes twice, made in about `memory` bytes at most."""
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
    """A dictionary of pairs, unless a key comes twice."""
    if len(pairs) > len(found := dict(pairs)):
        raise UnfitError("has a name twice in its JSON")
    return found


def kind_of(file: BinaryIO) -> str:
    """What a file looks like, by its first bytes."""
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
    """Joins names, and counts the letters: names within names can multiply without end."""

    def __init__(self) -> None:
        self._left = LETTERS

    def joined(self, *parts: str) -> str:
        """The path of groups in groups and a name in them; parts without letters are left out."""
        self._left -= sum(map(len, parts)) + len(parts)
        if self._left < 0:
            raise UnfitError(f"has names of more than {LETTERS} letters in all")
        return "/".join(part for part in parts if part)


def walked(
    tree: Mapping[Any, Any], is_wanted: Callable[[Any], bool], text: Callable[[Any], str] = str
) -> Iterator[tuple[str, Any]]:
    """What is wanted of the values in dictionaries of dictionaries, by name."""
    names = Names()
    keys: list[Any] = []
    levels = [iter(tree.items())]
    for _ in range(VALUES):  # a dictionary may be in itself, or twice in each of many
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
    """Arrays by paths such as `hidden1/kernel` as dictionaries in dictionaries."""
    tree: dict[str, Any] = {}
    made = 0  # a group of two letters takes two hundred bytes
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
    """Arrays by name, with one separator; PyTorch's and some of Flax's files have dots."""
    found: dict[str, np.ndarray] = {}
    for name, array in arrays:
        path = name.replace(".", "/")
        if path in found:
            raise UnfitError(f"has {shown(path)} twice")
        found[path] = array
    return found
