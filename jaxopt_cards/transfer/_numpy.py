"""Arrays saved by NumPy."""

import math
import os
from typing import Any

import ml_dtypes
import numpy as np

from jaxopt_cards._checks import HyperparameterError
from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.selection import compiled
from jaxopt_cards.transfer._foreign import UnfitError, from_convention, opened, zip_entries

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@named_in_errors
def from_numpy(
    path: str | os.PathLike,
    *,
    convention: str = "flax",
    embeddings: str = "embed",
    max_bytes: int = 2**33,
) -> dict[str, Any]:
    r"""Reads the arrays of an `.npz` file, as `np.savez` writes it.

    Names such as `hidden1/kernel` or `hidden1.kernel` become dictionaries in dictionaries. Pickled
    objects are refused. NumPy has no name for bfloat16 and saves it as two bytes of anything; they
    are taken for bfloat16, as `jax.numpy.load` does.

    Equation:
        .. math:: \tilde\theta_p = A_{\mathrm{name}(p)}

    Args:
        path: the file.
        convention: "flax", or "torch": then names and axes are those of PyTorch, and are changed
            as `from_torch` does.
        embeddings: as in `from_torch`.
        max_bytes: whole number > 0; files that declare more are not read.

    Returns:
        A nested dictionary of NumPy arrays, for `restore`.

    State:
        None.

    Raises:
        ValueError: the file is damaged, of another format, too large, or holds what is no array of
            numbers.
        OSError: there is no such file, or it may not be read.

    References:
        NumPy developers (2007), NEP 1: A Simple File Format for NumPy Arrays. Chapter 11, "Reusing
        Models from Other Frameworks".

    Use when: weights come from code that has nothing but NumPy.
    Avoid when: the file is still to be written; `.safetensors` has bfloat16 and is faster.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jaxopt_cards import transfer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(f"{folder}/net.npz", **{"hidden1/kernel": np.eye(2)})
        ...     transfer.from_numpy(f"{folder}/net.npz")
        {'hidden1': {'kernel': array([[1., 0.], [0., 1.]])}}
    """
    check_convention("from_numpy", convention)
    compiled("from_numpy", embeddings)
    with opened("from_numpy", path, max_bytes) as file:
        archive, entries = zip_entries(file, max_bytes)
        arrays = []
        for name, info in entries.items():
            if not name.endswith(".npy"):
                raise UnfitError(f"has the entry {name!r}, which is no array")
            with archive.open(info) as entry:
                arrays.append((name.removesuffix(".npy"), _array(entry, name, info.file_size)))
        return from_convention(arrays, convention, embeddings)


def check_convention(function: str, convention: str | None) -> None:
    """Raises unless names are those of one of the two."""
    if convention not in ("flax", "torch"):
        raise HyperparameterError(function, "convention", 'be "flax" or "torch"', convention)


def _array(entry: Any, name: str, size: int) -> np.ndarray:
    """An array, if its header says that it has the bytes that are there, all of them numbers."""
    version = np.lib.format.read_magic(entry)
    if version not in _HEADERS:
        raise UnfitError(f"has {name!r} in the format {version}, which arrays of numbers never are")
    shape, is_fortran, dtype = _HEADERS[version](entry)
    if dtype.hasobject:
        raise UnfitError(f"has a pickle in {name!r}, which is not opened: it could run any program")
    if dtype.kind not in "biufc" and dtype != np.dtype("V2"):
        raise UnfitError(f"has {name!r} of dtype {dtype}, which is no number")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or entry.tell() + count * dtype.itemsize != size:
        raise UnfitError(f"has {name!r}, whose header says {dtype}{list(shape)} in {size} bytes")
    flat = np.frombuffer(bytearray(entry.read()), dtype, count)
    flat = flat.view(ml_dtypes.bfloat16) if dtype == np.dtype("V2") else flat
    # In the byte order of this machine, which JAX needs.
    array = flat.astype(flat.dtype.newbyteorder("="), copy=False)
    return array.reshape(shape, order="F" if is_fortran else "C")
