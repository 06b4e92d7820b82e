"""Reads an HDF5 file in a process of its own, which a damaged file may crash, fill or hang.

`_hdf5` runs this file with the weights as standard input. Standard output is a line of JSON, then
the arrays, one after the other. Nothing of this package is imported: that would take longer.
"""

import contextlib
import json
import mmap
import os
import re
import struct
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np


class UnfitError(ValueError):
    """What is wrong with the file, as in `_foreign`."""


def read(file: BinaryIO, max_bytes: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What is in a file, by path, and its arrays."""
    check_texts(file)
    with h5py.File(file, "r") as root:
        is_legacy = "model_weights" in root or "layer_names" in root.attrs
        optimizer = "optimizer_weights/" if is_legacy else "optimizer/"
        items = [(path, item) for path, item in walked(root) if not path.startswith(optimizer)]
        groups = [(path, item) for path, item in items if isinstance(item, h5py.Group)]
        datasets = [(path, checked(path, item)) for path, item in items if hasattr(item, "shape")]
        if (size := sum(dataset.nbytes for _, dataset in datasets)) > max_bytes:
            raise UnfitError(f"would take {size} bytes, and max_bytes is {max_bytes}")
        arrays = [numbers_of(dataset) for _, dataset in datasets]
        about = {
            "is_legacy": is_legacy,
            "config": text(root, "", "model_config"),
            "groups": [(path, text(group, path, "name")) for path, group in groups],
            "arrays": [
                (path, array.dtype.str, array.shape)
                for (path, _), array in zip(datasets, arrays, strict=True)
            ],
        }
    return about, arrays


def check_texts(file: BinaryIO) -> None:
    """Raises where the lengths of texts do not add up: the HDF5 library (2.0) would never end."""
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for heap in re.finditer(rb"GCOL\x01\0{3}(.{8})", data, re.DOTALL):
        place, end = heap.end(), heap.start() + int.from_bytes(heap[1], "little")
        while place + 16 <= min(end, len(data)):
            number, length = struct.unpack_from("<H6xQ", data, place)
            # Number 0 is what is free, with its header; texts are filled up to eight bytes.
            place += 16 + (length + 7) // 8 * 8 if number else length
            if place > end or (number == 0 and length < 16):
                raise UnfitError("is damaged: the lengths of its texts do not add up")


def walked(root: Any) -> Iterator[tuple[str, Any]]:
    """All in a file by path; no name may lead elsewhere, to what has a name, or to nothing."""
    seen, waiting = {root}, [("", root)]
    while waiting:
        path, group = waiting.pop()
        for name in group:
            if not isinstance(link := group.get(name, getlink=True), h5py.HardLink):
                kind = "damaged link" if link is None else type(link).__name__
                raise UnfitError(f"has a {kind} in {name!r}, which is not followed")
            if (child := group[name]) in seen:
                raise UnfitError(f"has a second name {name!r} for what has one already")
            seen.add(child)
            inner = f"{path}/{name}".removeprefix("/")
            if isinstance(child, h5py.Group):
                waiting.append((inner, child))
            elif getattr(child, "shape", None) is None:
                raise UnfitError(f"has no array in {inner!r}")
            yield inner, child


def text(group: Any, path: str, name: str) -> str | None:
    """A text beside a group. Read as one, what is none crashes the HDF5 library (2.0)."""
    if name not in group.attrs:
        return None
    found = group.attrs.get_id(name)
    if h5py.check_string_dtype(found.dtype) is None or found.shape != ():
        raise UnfitError(f"has a {name} in {path!r} that is no text")
    value = group.attrs[name]
    return value.decode() if isinstance(value, bytes) else value


def checked(name: str, dataset: Any) -> Any:
    """A dataset of numbers that lie in this file."""
    if dataset.external or dataset.is_virtual:
        raise UnfitError(f"has the numbers of {name!r} in another file, which is not opened")
    # HDF5 has no bfloat16; of what Keras writes, only it is two bytes of no dtype.
    if dataset.dtype.kind not in "biufc" and dataset.dtype != np.dtype("V2"):
        raise UnfitError(f"has {name!r} of dtype {dataset.dtype}, which is no number")
    return dataset


def numbers_of(dataset: Any) -> np.ndarray:
    """The numbers of a dataset, in the byte order of this machine."""
    numbers = np.asarray(dataset[()])
    return numbers.astype(numbers.dtype.newbyteorder("="), copy=False)


def limit_memory(most: int) -> None:
    """As Linux can; macOS and Windows have no such limit."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        hard = 2**62 if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_AS, (min(most, hard), hard))


def main(max_bytes: int) -> None:
    """Reads standard input."""
    # Once for the arrays, once for what is changed on the way; the file is mapped.
    limit_memory(2**30 + 2 * max_bytes + os.fstat(0).st_size)
    arrays: list[np.ndarray] = []
    try:
        about, arrays = read(sys.stdin.buffer, max_bytes)
    except UnfitError as error:
        about = {"unfit": str(error)}
    except Exception as error:  # damaged bytes make the library raise all sorts
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
        about = {"unfit": f"is damaged, or of another format: {reason}"}
    sys.stdout.buffer.write(json.dumps(about).encode() + b"\n")
    for array in arrays:
        sys.stdout.buffer.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


if __name__ == "__main__":
    main(int(sys.argv[1]))
