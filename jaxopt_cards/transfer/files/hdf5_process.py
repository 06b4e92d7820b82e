"""Reads an HDF5 file in a separate process, which a damaged file may crash, fill or hang.

`hdf5` runs this file with the weights as standard input. It imports only `reader_process` from this
package, to start quickly.
"""

import math
import mmap
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import h5py
import numpy as np

from jaxopt_cards.transfer.files.reader_process import UnfitError, answer, limit_memory

MOST_TEXT = 2**24  # bytes of all paths, and of all text attributes
MOST_ITEMS = 2**15  # groups and arrays; HDF5 needs a tenth of a millisecond for each
DEPTH = 256  # of groups; Keras has three for each nested model
# The filters built into HDF5 and h5py; HDF5 would load others as libraries.
FILTERS = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 32000: "lzf"}


def read(file: BinaryIO, max_bytes: int, write: Callable[[Any], None]) -> dict[str, Any]:
    """Describes the contents of a file by path, and writes its arrays one after another."""
    check_texts(file)
    with h5py.File(file, "r") as root:
        is_legacy = "model_weights" in root or "layer_names" in root.attrs
        optimizer = "optimizer_weights/" if is_legacy else "optimizer/"
        items = [(path, item) for path, item in walked(root) if not path.startswith(optimizer)]
        groups = [(path, item) for path, item in items if isinstance(item, h5py.Group)]
        datasets = [(path, checked(path, item)) for path, item in items if hasattr(item, "shape")]
        if (size := sum(size_of(dataset) for _, dataset in datasets)) > max_bytes:
            raise UnfitError(f"would take {size} bytes, and max_bytes is {max_bytes}")
        texts = Texts()
        about: dict[str, Any] = {
            "is_legacy": is_legacy,
            "config": texts.read(root, "", "model_config"),
            "version": texts.read(root.get("model_weights", root), "", "keras_version"),
            "groups": [
                (path, texts.read(group, path, "name"), is_layer(group)) for path, group in groups
            ],
            "arrays": [],
        }
        for path, dataset in datasets:
            array = np.asarray(dataset[()])
            # In the byte order of this machine.
            array = array.astype(array.dtype.newbyteorder("="), copy=False)
            name = "bfloat16" if array.dtype == np.dtype("V2") else array.dtype.name
            about["arrays"].append((path, name, array.shape))
            write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return about


def check_texts(file: BinaryIO) -> None:
    """Raises if lengths of texts are inconsistent, which makes the HDF5 library (2.0) hang."""
    data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for heap in re.finditer(rb"GCOL\x01\0{3}(.{8})", data, re.DOTALL):
        place, end = heap.end(), heap.start() + int.from_bytes(heap[1], "little")
        while place + 16 <= min(end, len(data)):
            number, length = struct.unpack_from("<H6xQ", data, place)
            # Number 0 is free space, including its header; texts are padded to eight bytes.
            place += 16 + (length + 7) // 8 * 8 if number else length
            if place > end or (number == 0 and length < 16):
                raise UnfitError("is damaged: the lengths of its texts do not add up")


def walked(root: Any) -> Iterator[tuple[str, Any]]:
    """All groups and arrays by path; raises for links, second names and other objects."""
    seen, waiting, length, left = {root}, [("", root)], 0, MOST_ITEMS
    while waiting:
        path, group = waiting.pop()
        if (left := left - len(group)) < 0:
            raise UnfitError(f"has more than {MOST_ITEMS} groups and arrays")
        for name in group:
            if not isinstance(link := group.get(name, getlink=True), h5py.HardLink):
                kind = "damaged link" if link is None else type(link).__name__
                raise UnfitError(f"has a {kind} in {name[:60]!r}, which is not followed")
            if (child := group[name]) in seen:
                raise UnfitError(f"has a second name {name[:60]!r} for what has one already")
            seen.add(child)
            inner = f"{path}/{name}".removeprefix("/")
            if (length := length + len(inner)) > MOST_TEXT:
                raise UnfitError(f"has paths of more than {MOST_TEXT} characters")
            if inner.count("/") >= DEPTH:
                raise UnfitError(f"has groups in groups, deeper than {DEPTH}")
            if isinstance(child, h5py.Group):
                waiting.append((inner, child))
            elif getattr(child, "shape", None) is None:
                raise UnfitError(f"has no array in {inner[:60]!r}")
            yield inner, child


def is_layer(group: Any) -> bool:
    """Whether a group lists weights, as groups of layers do in a legacy file."""
    return "weight_names" in group.attrs or "weight_names0" in group.attrs


class Texts:
    """Reads text attributes of groups, with a limit for their total length."""

    def __init__(self) -> None:
        self.left = MOST_TEXT

    def read(self, group: Any, path: str, name: str) -> str | None:
        """A text attribute; first checks its type, since HDF5 2.0 crashes on others."""
        if name not in group.attrs:
            return None
        found = group.attrs.get_id(name)
        if h5py.check_string_dtype(found.dtype) is None or found.shape != ():
            raise UnfitError(f"has a {name} in {path[:60]!r} that is not text")
        # A text of variable length is in the file, with 16 bytes here.
        value = group.attrs[name] if found.dtype.itemsize <= self.left else b""
        self.left -= max(len(value), found.dtype.itemsize)
        if self.left < 0:
            raise UnfitError(f"has texts of more than {MOST_TEXT} bytes beside its arrays")
        return value.decode() if isinstance(value, bytes) else value


def checked(name: str, dataset: Any) -> Any:
    """The dataset; raises unless it has numbers that are in this file."""
    if dataset.external or dataset.is_virtual:
        raise UnfitError(f"has the numbers of {name!r} in another file, which is not opened")
    settings = dataset.id.get_create_plist()
    for index in range(settings.get_nfilters()):
        code = settings.get_filter(index)[0]
        if code not in FILTERS or not h5py.h5z.filter_avail(code):
            known = ", ".join(FILTERS.values())
            raise UnfitError(f"has {name!r} compressed by filter {code}, and only {known} are read")
    # HDF5 has no bfloat16: Keras writes it as two bytes without a dtype.
    if dataset.dtype.kind not in "biufc" and dataset.dtype != np.dtype("V2"):
        raise UnfitError(f"has {name!r} of dtype {dataset.dtype}, which is not a number")
    return dataset


def size_of(dataset: Any) -> int:
    """The bytes needed to read a dataset: one chunk may be larger than the whole dataset."""
    return max(dataset.nbytes, math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize)


def main(max_bytes: int) -> None:
    """Reads standard input."""
    # Memory for an array and a converted copy; the file is mapped.
    limit_memory("RLIMIT_AS", 2**30 + 2 * max_bytes + os.fstat(0).st_size)
    answer(lambda write: read(sys.stdin.buffer, max_bytes, write))


if __name__ == "__main__":
    main(int(sys.argv[1]))
