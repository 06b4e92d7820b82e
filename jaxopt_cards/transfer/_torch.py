"""Weights saved by PyTorch, read without PyTorch and without unpickling."""

import math
import os
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.selection import compiled
from jaxopt_cards.transfer._foreign import (
    DEPTH,
    UnfitError,
    check_size,
    from_convention,
    kind_of,
    opened,
    zip_entries,
)
from jaxopt_cards.transfer._torch_pickle import Tensor, unpickled

_ADVICE = "save it anew with torch.save(model.state_dict(), path) and a PyTorch since 1.6"
_NAMES = 1_000_000  # more than any network has


@named_in_errors
def from_torch(
    source: str | os.PathLike | Mapping[str, Any],
    *,
    embeddings: str = "embed",
    max_bytes: int = 2**33,
) -> dict[str, Any]:
    r"""Reads a PyTorch `state_dict`, from a file or from memory, as NNX would name it.

    Weights of dense layers (outputs, inputs) and convolutions (outputs, inputs, height, width)
    become kernels with their axes in Flax's order; those of normalisations
    become `scale`, `bias`, `mean` and `var`. The path before is kept: `net.hidden1.weight` is
    `net/hidden1/kernel`. A file is read without PyTorch, and nothing in it is ever called: what is
    not a description of arrays is refused by name. From a checkpoint with more in it, such as
    `{"state_dict": ..., "epoch": 3}`, all tensors are read, under the names of their dictionaries,
    and the rest is left out; so it is from memory.

    A dense layer on a flattened convolution expects its inputs by channel, height, width; Flax
    flattens height, width, channel, and nothing in a state_dict tells. Put them in order yourself,
    here for `fc` on 8 channels of 5 times 5:

        kernel = saved["fc"]["kernel"].reshape(8, 5, 5, -1)
        saved["fc"]["kernel"] = kernel.transpose(1, 2, 0, 3).reshape(8 * 5 * 5, -1)
        model, report = transfer.restore(model, saved)

    Equation:
        .. math:: W_{\mathrm{NNX}} = W_{\mathrm{torch}}^\top, \qquad
            K_{\mathrm{NNX}}[h, w, i, o] = K_{\mathrm{torch}}[o, i, h, w]

    Args:
        source: a file of `torch.save(model.state_dict(), path)`, or the mapping itself.
        embeddings: regular expression over module paths; two-dimensional weights there, without
            bias, are tables of embeddings and keep their axes: a state_dict does not tell them
            from dense layers. Transposed convolutions it does not tell from others either.
        max_bytes: whole number > 0; files that declare more are not read.

    Returns:
        A nested dictionary of NumPy arrays, for `restore`; bfloat16 as it is.

    State:
        None.

    Raises:
        ValueError: the file is damaged, of another format, too large, or asks for anything beyond
            a state_dict; a tensor is no plain array (sparse, quantised, a conjugate view).
        OSError: there is no such file, or it may not be read.

    References:
        Adam Paszke et al. (2019), PyTorch: An Imperative Style, High-Performance Deep Learning
        Library. Chapter 11, "Reusing Models from Other Frameworks".

    Use when: a network was trained with PyTorch.
    Avoid when: the file has a pickled module or TorchScript; save its state_dict first.

    Example:
        >>> import numpy as np
        >>> from jaxopt_cards import transfer
        >>> state_dict = {"hidden1.weight": np.ones((3, 2)), "hidden1.bias": np.zeros(3)}
        >>> transfer.from_torch(state_dict)["hidden1"]["kernel"].shape
        (2, 3)
    """
    compiled("from_torch", embeddings)
    if isinstance(source, Mapping):
        try:
            named = [(name, value) for name, value in _named(source) if hasattr(value, "shape")]
            arrays = [(name, _in_memory(name, value)) for name, value in named]
            return from_convention(arrays, "torch", embeddings)
        except UnfitError as error:
            raise ValueError(f"from_torch: the state_dict {error}") from None
    with opened("from_torch", source, max_bytes) as file:
        return from_convention(_tensors(file, max_bytes), "torch", embeddings)


def _tensors(file: BinaryIO, max_bytes: int) -> list[tuple[str, np.ndarray]]:
    """All tensors of a file, by the names of the dictionaries that they are in."""
    if not (kind := kind_of(file)).startswith("a zip"):
        raise UnfitError(f"is not what torch.save writes, but {kind}; {_ADVICE}")
    archive, entries = zip_entries(file, max_bytes)
    roots = [name.split("/")[0] for name in entries if name.count("/") == 1]
    roots = [root for root in dict.fromkeys(roots) if f"{root}/data.pkl" in entries]
    if len(roots) != 1:
        raise UnfitError(f"is a zip archive that torch.save did not write; {_ADVICE}")
    (root,) = roots
    if f"{root}/constants.pkl" in entries:
        raise UnfitError(f"is TorchScript, a program; {_ADVICE}")

    def read(name: str) -> bytes:
        info = entries.get(f"{root}/{name}")
        if info is None or info.compress_type or info.compress_size != info.file_size:
            raise UnfitError(f"has no {name!r}, or not uncompressed as torch.save would write it")
        return archive.read(info)

    if f"{root}/byteorder" in entries and read("byteorder") != b"little":
        raise UnfitError(f"is of a machine of another byte order; {_ADVICE} on this one")
    tree = unpickled(read("data.pkl"))
    found = [(name, value) for name, value in _named(tree) if isinstance(value, Tensor)]
    sizes = (math.prod(t.shape) * t.storage.dtype.itemsize for _, t in found)
    check_size(sum(sizes), max_bytes)
    storages = {key: read(f"data/{key}") for key in {t.storage.key for _, t in found}}
    return [(name, _array(name, tensor, storages)) for name, tensor in found]


def _array(name: str, tensor: Tensor, storages: dict[str, bytes]) -> np.ndarray:
    """The array of a tensor, once all its numbers are found to lie in its storage."""
    storage = tensor.storage
    data = storages[storage.key]
    if len(data) != storage.size * storage.dtype.itemsize:
        raise UnfitError(f"is damaged: {name!r} should have {storage.size} numbers")
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, storage.dtype)
    steps = ((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    if tensor.offset + sum(steps) >= storage.size:
        raise UnfitError(f"is damaged: {name!r} of shape {tensor.shape} leaves its array")
    flat = np.frombuffer(data, storage.dtype)[tensor.offset :]
    strides = [stride * storage.dtype.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(flat, tensor.shape, strides).copy()


def _named(tree: Any) -> Iterator[tuple[str, Any]]:
    """What is in dictionaries of dictionaries, by name."""
    if not isinstance(tree, Mapping):
        raise UnfitError(f"is no dictionary of tensors, but a {type(tree).__name__}; {_ADVICE}")
    waiting = [("", 0, tree)]
    for _ in range(_NAMES):  # a dictionary may be in itself, or twice in each of many
        if not waiting:
            return
        name, depth, value = waiting.pop()
        if isinstance(value, Mapping):
            if depth > DEPTH:
                break
            inner = [(f"{name}/{key}".removeprefix("/"), depth + 1, v) for key, v in value.items()]
            waiting += reversed(inner)
        else:
            yield name, value
    raise UnfitError("has dictionaries without end")


def _in_memory(name: str, value: Any) -> np.ndarray:
    """A tensor of PyTorch, or an array of any kind, as one of NumPy."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            # PyTorch does not give NumPy its bfloat16, but each is a float32 too.
            if str(value.dtype) == "torch.bfloat16":
                return value.float().numpy().astype(ml_dtypes.bfloat16)
            return value.numpy().copy()
        array = np.array(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnfitError(f"has {name!r}, which is no plain array: {error}") from None
    if array.dtype.kind not in "biufcV":
        raise UnfitError(f"has {name!r}, which is no array but a {type(value).__name__}")
    return array
