"""Arrays saved by the safetensors library."""

import os
import re
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxopt_cards.core.checks import escaped, shown
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.optional import optional
from jaxopt_cards.transfer.files.foreign import (
    SLACK,
    UnfitError,
    check_size,
    json_object,
    kind_of,
    opened,
)
from jaxopt_cards.transfer.files.npz import check_convention
from jaxopt_cards.transfer.files.torch_layout import layout

_HEADER = 2**24  # bytes, for 100,000 arrays; the library allows six times as much

DTYPES: dict[str, Any] = {
    "BOOL": np.bool,
    "U8": np.uint8,
    "I8": np.int8,
    "U16": np.uint16,
    "I16": np.int16,
    "U32": np.uint32,
    "I32": np.int32,
    "U64": np.uint64,
    "I64": np.int64,
    "F16": np.float16,
    "F32": np.float32,
    "F64": np.float64,
    "C64": np.complex64,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
}


@declare
def from_safetensors(
    path: str | os.PathLike,
    *,
    convention: str | None = None,
    embeddings: str = "embed",
    inputs_first: str | None = None,
    max_bytes: int = 2**33,
) -> dict[str, Any]:
    r"""Reads the arrays of a `.safetensors` file.

    Names such as `hidden1/kernel` or `hidden1.kernel` become dictionaries in dictionaries. That the
    arrays are PyTorch's is told by the file ("format": "pt") or, where it says nothing, by their
    names: there is a `weight` or a `running_mean`, and no `kernel`, `scale` or `embedding`. Needs
    the library safetensors.

    Args:
        path: the file.
        convention: "flax", or "torch": then names and axes are those of PyTorch, and are changed
            as `from_torch` does. Default: what the file says, or its names.
        embeddings: as in `from_torch`.
        inputs_first: as in `from_torch`.
        max_bytes: whole number > 0; larger files are not read.

    Returns:
        A nested dictionary of NumPy arrays, for `restore`; bfloat16 as it is.

    Raises:
        ValueError: the file is damaged, of another format or too large; `inputs_first` matches no
            weight, or the file is not laid out as PyTorch's.
        OSError: there is no such file, or it may not be read.
        ImportError: safetensors is not installed.

    References:
        Hugging Face (2022), Safetensors: ML Safer for All. Chapter 11, "Reusing Models from Other
        Frameworks".

    Use when: weights come from others: the format holds arrays and cannot run anything.
    Avoid when: a quantised network is read; integers come without their scales.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jaxopt_cards import transfer
        >>> from safetensors.numpy import save_file
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_file({"hidden1.weight": np.ones((1, 2))}, f"{folder}/net.safetensors")
        ...     transfer.from_safetensors(f"{folder}/net.safetensors")
        {'hidden1': {'kernel': array([[1.], [1.]])}}
    """
    if convention is not None:
        check_convention(convention)
    given = layout(embeddings, inputs_first)
    safetensors = optional("safetensors")

    with opened(path, max_bytes) as file:
        check_size(file.seek(0, os.SEEK_END), max_bytes)
        origin = _metadata(file, max_bytes).get("format")
        try:
            arrays = [array_of(*entry) for entry in safetensors.deserialize(file.read())]
        except safetensors.SafetensorError as error:
            raise UnfitError(f"is damaged: {error}") from None
        if convention is None and (origin == "pt" or (not origin and _named_by_torch(arrays))):
            convention = "torch"
        return given.tree(arrays, convention == "torch")


def _metadata(file: BinaryIO, max_bytes: int) -> dict[str, Any]:
    """What the file says of itself. Of two arrays of one name the library would keep the last."""
    size = file.seek(0, os.SEEK_END)
    if (kind := kind_of(file)) != "a safetensors file":
        raise UnfitError(f"is not a safetensors file, but {kind}")
    length = int.from_bytes(file.read(8), "little")
    if length > size - 8:
        raise UnfitError(f"is cut short, or damaged: its header would have {length} bytes")
    if length > _HEADER:
        raise UnfitError(f"has a header of {length} bytes, more than {_HEADER}")
    found = json_object(file.read(length), max_bytes + 2 * size + SLACK)
    file.seek(0)
    metadata = found.get("__metadata__", {})
    if not isinstance(metadata, dict):
        raise UnfitError("is damaged: the metadata in its header are not an object")
    return metadata


def _named_by_torch(arrays: list[tuple[str, np.ndarray]]) -> bool:
    """Whether the names are PyTorch's: its own function for saving does not write who it is."""
    last = {re.split("[./]", name)[-1] for name, _ in arrays}
    return bool(last & {"weight", "running_mean"}) and not last & {"kernel", "scale", "embedding"}


def array_of(name: str, entry: dict[str, Any]) -> tuple[str, np.ndarray]:
    """The name and the array of an entry as the library gives it."""
    if entry["dtype"] not in DTYPES:
        raise UnfitError(
            f"has {shown(name)} of dtype {escaped(entry['dtype'], 60)}, which NumPy does not have"
        )
    flat = np.frombuffer(entry["data"], DTYPES[entry["dtype"]])
    return name, flat.reshape(entry["shape"])
