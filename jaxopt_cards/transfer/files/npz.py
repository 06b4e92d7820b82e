"""Arrays saved by NumPy."""

import itertools
import os
import re
from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np

from jaxopt_cards.core.checks import HyperparameterError, escaped, shown
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.transfer.files.foreign import DIMENSIONS, UnfitError, count_of, opened
from jaxopt_cards.transfer.files.torch_layout import layout
from jaxopt_cards.transfer.files.zip import Archive, zip_archive

_LENGTHS = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}  # bytes of the header's length
_LONGEST = 10_000  # bytes of a header, as in NumPy
_NUMBER = re.compile(r"[<>=|]?(b1|[iu][1248]|f(2|4|8|12|16)|c(8|16|24|32)|V2)")
_ITEM = re.compile(r"'(\w+)'\s*:\s*('[^']*'|True|False|\([\d\sL,]*\)|\[.*\])", re.DOTALL)


@declare
def from_numpy(
    path: str | os.PathLike,
    *,
    convention: str = "flax",
    embeddings: str = "embed",
    inputs_first: str | None = None,
    max_bytes: int = 2**33,
) -> dict[str, Any]:
    r"""Reads the arrays of an `.npz` file, as written by `np.savez`.

    Names such as `hidden1/kernel` or `hidden1.kernel` become nested dictionaries. Pickled objects
    are refused. NumPy saves bfloat16 as two bytes without a dtype; these are read as bfloat16, as
    in `jax.numpy.load`.

    Args:
        path: the file.
        convention: "flax" or "torch". With "torch", names and axes are converted as in
            `from_torch`.
        embeddings: as in `from_torch`.
        inputs_first: as in `from_torch`.
        max_bytes: int in [1, inf); files that declare more are refused.

    Returns:
        A nested dictionary of NumPy arrays, for `restore`.

    Raises:
        ValueError: the file is damaged, in another format, too large, or has something other than
            arrays of numbers; `inputs_first` matches no weight, or `convention` is not "torch".
        OSError: the file does not exist or cannot be read.

    References:
        NumPy developers (2007), NEP 1: A Simple File Format for NumPy Arrays. Géron (2017), chapter
        11, "Reusing Models from Other Frameworks".

    Use when: weights come from code that uses only NumPy.
    Avoid when: you choose the format of a new file; `.safetensors` has bfloat16 and is faster.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jaxopt_cards import transfer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/net.npz", **{"hidden1/kernel": np.eye(2)})
        ...     transfer.from_numpy(f"{folder}/net.npz")
        {'hidden1': {'kernel': array([[1., 0.], [0., 1.]])}}
    """
    check_convention(convention)
    given = layout(embeddings, inputs_first)
    with opened(path, max_bytes) as file:
        archive = zip_archive(file, max_bytes)
        arrays = []
        for name in archive.entries:
            if not name.endswith(".npy"):
                raise UnfitError(f"has the entry {shown(name)}, which is not an array")
            arrays.append((name.removesuffix(".npy"), _array(archive, name)))
        return given.tree(arrays, convention == "torch")


def check_convention(convention: str | None) -> None:
    """Raises unless the convention is known."""
    if convention not in ("flax", "torch"):
        raise HyperparameterError("convention", 'be "flax" or "torch"', convention)


def _array(archive: Archive, name: str) -> np.ndarray:
    """An array; raises unless its header fits its bytes and has a dtype of numbers."""
    pieces = archive.pieces(name)
    data = bytearray(next(pieces, b""))
    place, dtype, shape, is_fortran = _header(name, data)
    size, count = archive.entries[name].size, count_of(shape, dtype.itemsize)
    if place + count * dtype.itemsize != size:
        said = f"{dtype}{list(shape)}"
        raise UnfitError(f"has {shown(name)}, whose header says {said} in {size} bytes")
    flat = np.empty(count, dtype)
    _fill(flat.view(np.uint8), itertools.chain([memoryview(data)[place:]], pieces))
    if not dtype.isnative:  # JAX needs native byte order
        flat = flat.byteswap(inplace=True).view(dtype.newbyteorder("="))
    flat = flat.view(ml_dtypes.bfloat16) if dtype == np.dtype("V2") else flat
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _fill(target: np.ndarray, pieces: Iterable[bytes | memoryview]) -> None:
    """Fills an array piece by piece, so that the numbers are in memory only once."""
    place = 0
    for piece in pieces:
        target[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)


def _header(name: str, data: bytearray) -> tuple[int, np.dtype, tuple[int, ...], bool]:
    """The offset of the numbers, and the items of the header, which NumPy would evaluate."""
    version = bytes(data[6:8])
    if not data.startswith(b"\x93NUMPY") or len(version) < 2:
        raise UnfitError(f"has {shown(name)}, which is damaged, or no array")
    if version not in _LENGTHS:
        raise UnfitError(f"has {shown(name)} in the format {tuple(version)}, which is not known")
    start = 8 + _LENGTHS[version]
    length = int.from_bytes(data[8:start], "little")
    if length > min(_LONGEST, len(data) - start):
        raise UnfitError(f"is damaged: {shown(name)} has a header of {length} bytes")
    # Version 3 has UTF-8, but only in names of fields, which are not read.
    text = data[start : start + length].decode("latin-1")
    descr, is_fortran, shape = _items(name, text.strip())
    if "O" in descr:
        why = "which is not opened: it could run any program"
        raise UnfitError(f"has a pickle in {shown(name)}, {why}")
    if not _NUMBER.fullmatch(descr):
        raise UnfitError(f"has {shown(name)} of dtype {escaped(descr, 60)}, which is not a number")
    return start + length, np.dtype(descr), shape, is_fortran


def _items(name: str, text: str) -> tuple[str, bool, tuple[int, ...]]:
    """The three items of a header: dtype, whether in Fortran order, shape."""
    pairs = _ITEM.findall(text.replace('"', "'"))
    if sorted(key for key, _ in pairs) != ["descr", "fortran_order", "shape"]:
        raise UnfitError(f"is damaged: {shown(name)} has a header that NumPy does not write")
    descr, order, shape = (dict(pairs)[key] for key in ("descr", "fortran_order", "shape"))
    sizes = re.findall(r"\d+", shape)
    if len(sizes) > DIMENSIONS or max(map(len, sizes), default=0) > 19 or shape[0] != "(":
        raise UnfitError(f"is damaged: {shown(name)} has the shape {escaped(shape, 60)}")
    return descr.strip("'"), order == "True", tuple(map(int, sizes))
