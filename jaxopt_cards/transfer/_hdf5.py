"""HDF5 files as Keras writes them, and nothing that could lead out of them."""

import io
import mmap
import re
import struct
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxopt_cards.transfer._foreign import UnfitError


def check_texts(file: BinaryIO) -> None:
    """Raises where the lengths of texts do not add up: the HDF5 library (2.0) would never end."""
    data: Any = (
        file.getvalue()
        if isinstance(file, io.BytesIO)
        else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    )
    for heap in re.finditer(rb"GCOL\x01\0{3}(.{8})", data, re.DOTALL):
        place, end = heap.end(), heap.start() + int.from_bytes(heap[1], "little")
        while place + 16 <= min(end, len(data)):
            number, length = struct.unpack_from("<H6xQ", data, place)
            # Number 0 is what is free, with its header; texts are filled up to eight bytes.
            place += 16 + (length + 7) // 8 * 8 if number else length
            if place > end or (number == 0 and length < 16):
                raise UnfitError("is damaged: the lengths of its texts do not add up")


def check_links(root: Any) -> None:
    """Raises where a name leads to another name or file, to what has a name, or to nothing."""
    import h5py

    seen, waiting = {root}, [root]
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(link := group.get(name, getlink=True), h5py.HardLink):
                kind = "damaged link" if link is None else type(link).__name__
                raise UnfitError(f"has a {kind} in {name!r}, which is not followed")
            if (child := group[name]) in seen:
                raise UnfitError(f"has a second name {name!r} for what has one already")
            seen.add(child)
            if isinstance(child, h5py.Group):
                waiting.append(child)
            elif getattr(child, "shape", None) is None:
                raise UnfitError(f"has no array in {child.name!r}")


def members(group: Any) -> dict[str, Any]:
    """What is in a group; nothing where there should be one and is an array."""
    if hasattr(group, "shape"):
        raise UnfitError(f"has an array where layers should be, in {group.name[:60]!r}")
    return dict(group)


def checked(name: str, dataset: Any) -> Any:
    """A dataset of numbers that lie in this file."""
    if not hasattr(dataset, "shape"):
        raise UnfitError(f"has layers where an array should be, in {name!r}")
    if dataset.external or dataset.is_virtual:
        raise UnfitError(f"has the numbers of {name!r} in another file, which is not opened")
    if dataset.dtype.kind not in "biufc" and not _is_bfloat16(dataset):
        raise UnfitError(f"has {name!r} of dtype {dataset.dtype}, which is no number")
    return dataset


def numbers_of(dataset: Any) -> np.ndarray:
    """The numbers of a dataset."""
    numbers = np.asarray(dataset[()])
    return numbers.view(ml_dtypes.bfloat16) if _is_bfloat16(dataset) else numbers


def _is_bfloat16(dataset: Any) -> bool:
    """HDF5 has no such number; of what Keras writes, only it is two bytes of no dtype."""
    return bool(dataset.dtype == np.dtype("V2"))
