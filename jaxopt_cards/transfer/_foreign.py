"""What all readers of foreign files share: nothing is trusted, nothing is called, errors say where.

Readers raise `UnfitError` with what they found; `opened` adds the function and the file.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from jaxopt_cards._checks import check_count, escaped

DIMENSIONS = 64  # of NumPy's arrays
DEPTH = 64  # names of more parts than any network has
LETTERS = 2**22  # of all names together: those of 60,000 arrays


class UnfitError(ValueError):
    """What is wrong with a file, as the end of a sentence that begins with its name."""


@contextmanager
def opened(function: str, path: str | os.PathLike, max_bytes: int) -> Iterator[BinaryIO]:
    """Opens a file for a reader, and makes one kind of error of all that can be wrong in it."""
    check_count(function, "max_bytes", max_bytes)
    named = f"{function}: {escaped(path)}"
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise UnfitError("is no file")
        file = Path(path).open("rb")  # noqa: SIM115 (errors while reading are others)
    except OSError as error:
        raise OSError(error.errno, f"{named}: {error.strerror}") from None
    except UnfitError as error:
        raise ValueError(f"{named} {error}") from None
    except ValueError:  # zero bytes, lone surrogates
        raise ValueError(f"{named} is no name that a file can have") from None
    with file:
        try:
            yield file
        except UnfitError as error:
            raise ValueError(f"{named} {escaped(error)}") from None
        except Exception as error:  # damaged bytes make the libraries raise all sorts
            reason = escaped(str(error).partition("\n")[0], 200)
            raise ValueError(
                f"{named} is damaged, or of another format: {type(error).__name__}: {reason}"
            ) from error


def check_size(declared: int, max_bytes: int) -> None:
    """Raises if more would be read than was allowed; before it is read."""
    if declared > max_bytes:
        size = declared if declared < 2**64 else "more than 2**64"
        raise UnfitError(f"would take {size} bytes, and max_bytes is {max_bytes}")


def count_of(shape: Any, itemsize: int) -> int:
    """How many numbers an array of a shape has, once that shape is known to be one.

    A shape that is no tuple could change after it was checked.
    """
    if type(shape) is not tuple or len(shape) > DIMENSIONS:
        raise UnfitError(f"is damaged: a shape must be a tuple of at most {DIMENSIONS} sizes")
    if not all(type(size) is int and 0 <= size < 2**63 for size in shape):
        raise UnfitError("is damaged: a shape has sizes that are no whole numbers in [0, 2**63)")
    # NumPy refuses sizes beyond its own also where another one is zero.
    if math.prod(size or 1 for size in shape) * itemsize >= 2**63:
        raise UnfitError(f"is damaged: an array of shape {shape} is larger than any memory")
    return math.prod(shape)


def kind_of(file: BinaryIO) -> str:
    """What a file looks like, by its first bytes."""
    file.seek(0)
    head = file.read(16)
    file.seek(0)
    kinds = {
        b"PK": "a zip archive",
        b"\x89HDF": "an HDF5 file",
        b"\x93NUMPY": "a single array (.npy), which has no name",
        b"\x80": "a pickle, which is not opened since it could run any program",
    }
    if head[8:9] == b"{":
        return "a safetensors file"
    return next((kind for start, kind in kinds.items() if head.startswith(start)), "something else")


class Names:
    """Joins names, and counts the letters: names within names can multiply without end."""

    def __init__(self) -> None:
        self._left = LETTERS

    def joined(self, group: str, name: str) -> str:
        """The path of what has this name in a group; the outermost group is the empty text."""
        self._left -= len(group) + len(name) + 1
        if self._left < 0:
            raise UnfitError(f"has names of more than {LETTERS} letters in all")
        return f"{group}/{name}" if group else name


def nested(arrays: Iterable[tuple[str, np.ndarray]]) -> dict[str, Any]:
    """Arrays by paths such as `hidden1/kernel` as dictionaries in dictionaries."""
    tree: dict[str, Any] = {}
    for name, array in arrays:
        *groups, last = name.split("/")
        if len(groups) >= DEPTH:
            raise UnfitError(f"has a name of {len(groups) + 1} parts, {name[:60]!r}…")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
            if not isinstance(node, dict):
                raise UnfitError(f"has {name!r} inside what is an array itself")
        if last in node:
            raise UnfitError(f"has {name!r} twice")
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
            raise UnfitError(f"has {path!r} twice")
        found[path] = array
    return found


def from_convention(
    arrays: Iterable[tuple[str, np.ndarray]], convention: str | None, embeddings: str
) -> dict[str, Any]:
    """The nested dictionary of arrays that are named and laid out as in Flax or as in PyTorch."""
    found = with_slashes(arrays)
    return nested((as_in_nnx(found, embeddings) if convention == "torch" else found).items())


def as_in_nnx(arrays: Mapping[str, np.ndarray], embeddings: str) -> dict[str, np.ndarray]:
    """PyTorch's arrays with NNX's names and axes."""
    names = {"running_mean": "mean", "running_var": "var"}
    converted = {}
    for path, array in arrays.items():
        module, slash, name = path.rpartition("/")
        if name == "num_batches_tracked":
            continue
        if name == "weight" and array.ndim:
            is_table = array.ndim == 2 and f"{module}/bias" not in arrays
            is_table = is_table and re.search(embeddings, module) is not None
            name, array = _weight(array, is_table)
        name = names.get(name, name)
        if (new := f"{module}{slash}{name}") in converted:
            raise UnfitError(f"has {new!r} twice")
        converted[new] = array
    return converted


def _weight(array: np.ndarray, is_table: bool) -> tuple[str, np.ndarray]:
    """Name and axes of a weight, which in PyTorch has the outputs first, then the inputs."""
    if array.ndim == 1:
        return "scale", array
    if is_table:
        return "embedding", array
    return "kernel", np.ascontiguousarray(array.transpose(*range(2, array.ndim), 1, 0))
