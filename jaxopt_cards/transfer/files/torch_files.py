"""The files of `torch.save`: zip archives and, before PyTorch 1.6, pickles followed by numbers."""

import os
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import numpy as np

from jaxopt_cards.core.checks import shown
from jaxopt_cards.transfer.files.foreign import SLACK, UnfitError, check_size, kind_of, walked
from jaxopt_cards.transfer.files.pickle_bytes import Bytes
from jaxopt_cards.transfer.files.torch_globals import Key, Storage, Tensor
from jaxopt_cards.transfer.files.torch_pickle import unpickled
from jaxopt_cards.transfer.files.zip import PIECE, zip_archive

ADVICE = "save it again with torch.save(model.state_dict(), path)"

_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_PICKLE = 2**28  # bytes of a description, which does not have the numbers of arrays

_Read = Callable[[Storage], bytearray]


def tensors(file: BinaryIO, max_bytes: int) -> list[tuple[str, np.ndarray]]:
    """All tensors of a file, with names from their dictionaries.

    Tensors that are equal views of the same storage are the same array.
    """
    size = file.seek(0, os.SEEK_END)
    memory = max_bytes + size + SLACK
    kind = kind_of(file)
    if kind.startswith("a zip"):
        tree, read = _archive(file, max_bytes, memory)
    elif kind.startswith("a pickle"):
        tree, read = _legacy(file, memory)
    else:
        raise UnfitError(f"is not what torch.save writes, but {kind}; {ADVICE}")
    names = list(walked(tree, lambda value: type(value) is Tensor, _text))
    # A tensor may have many names, and computing its place takes time.
    place_of = {id(tensor): tensor.place for tensor in {id(t): t for _, t in names}.values()}
    places = [place_of[id(tensor)] for _, tensor in names]
    distinct = dict(zip(reversed(places), reversed(names), strict=True))
    check_size(sum(tensor.nbytes for _, tensor in distinct.values()), max_bytes)
    # A storage has the same size in the file, unless the archive is compressed.
    check_size(_memory(tensor for _, tensor in distinct.values()) - size, max_bytes)
    arrays = _arrays(distinct, read)
    return [(name, arrays[place]) for (name, _), place in zip(names, places, strict=True)]


def _text(key: Any) -> str:
    """A key as part of a name."""
    text = key.text if isinstance(key, Key) else str(key)
    if text is None:
        raise UnfitError("has a tensor under a key that is not text")
    return text


def _archive(file: BinaryIO, max_bytes: int, memory: int) -> tuple[dict[Any, Any], _Read]:
    """The description in a zip archive, and a function that reads its storages."""
    archive = zip_archive(file, max_bytes)
    entries = archive.entries
    roots = [name.split("/")[0] for name in entries if name.count("/") == 1]
    roots = [root for root in dict.fromkeys(roots) if f"{root}/data.pkl" in entries]
    if len(roots) != 1:
        raise UnfitError(f"is a zip archive that torch.save did not write; {ADVICE}")
    (root,) = roots
    if f"{root}/constants.pkl" in entries:
        raise UnfitError(f"is TorchScript, a program; {ADVICE}")
    order = f"{root}/byteorder"
    if order in entries and (entries[order].size > 6 or archive.read(order) != b"little"):
        raise UnfitError(f"comes from a machine with another byte order; {ADVICE} on this one")
    if entries[f"{root}/data.pkl"].size > _PICKLE:
        raise UnfitError(f"is damaged: its data.pkl has more than {_PICKLE} bytes")

    def read(storage: Storage) -> bytearray:
        name = f"{root}/data/{storage.key}"
        if name not in entries:
            raise UnfitError(f"is damaged: there is no {shown(f'data/{storage.key}')}")
        if entries[name].size != storage.size * storage.dtype.itemsize:
            raise UnfitError(f"is damaged: {shown(name)} should have {storage.size} numbers")
        return archive.read(name)

    return _dictionary(unpickled(Bytes(archive.pieces(f"{root}/data.pkl")), memory)), read


def _dictionary(tree: Any) -> dict[Any, Any]:
    """The description, which must be a dictionary."""
    if type(tree) is not dict:
        raise UnfitError(f"is not a dictionary of tensors, but a {type(tree).__name__}; {ADVICE}")
    return tree


def _legacy(file: BinaryIO, memory: int) -> tuple[dict[Any, Any], _Read]:
    """The description in a file of PyTorch before 1.6, and a function that reads its storages."""
    source = Bytes(iter(lambda: file.read(PIECE), b""))
    try:
        is_torch = unpickled(source, memory) == _MAGIC
    except UnfitError:
        is_torch = False
    if not is_torch:
        raise UnfitError(
            "is a pickle that torch.save did not write: it is not opened since it could run any "
            f"program; {ADVICE}"
        )
    if unpickled(source, memory) != _VERSION:
        # Without the version itself, which may be too long to print.
        raise UnfitError(f"is of a version of torch.save that is not {_VERSION}")
    about = unpickled(source, memory)
    if not isinstance(about, dict) or about.get("little_endian") is not True:
        raise UnfitError(f"comes from a machine with another byte order; {ADVICE} on this one")
    storages: dict[str, Storage] = {}
    tree = _dictionary(unpickled(source, memory, storages))
    keys = unpickled(source, memory)
    places = _places(file, source.place, keys, storages)

    def read(storage: Storage) -> bytearray:
        if storage.key not in places:
            raise UnfitError(f"is damaged: there are no numbers {shown(storage.key)}")
        place, size = places[storage.key]
        file.seek(place)
        return bytearray(file.read(size))

    return tree, read


def _places(
    file: BinaryIO, place: int, keys: Any, storages: dict[str, Storage]
) -> dict[str, tuple[int, int]]:
    """The start and the bytes of the numbers of each storage, which follow their count."""
    is_list = type(keys) is list and all(type(key) is str and key in storages for key in keys)
    if not is_list or len(set(keys)) < len(keys):
        raise UnfitError("is damaged: it has no list of its arrays")
    end = file.seek(0, os.SEEK_END)
    places = {}
    for key in keys:
        file.seek(place)
        count = int.from_bytes(file.read(8), "little", signed=True)
        size = count * storages[key].dtype.itemsize
        place += 8
        if count < 0 or place + size > end:
            raise UnfitError("is cut short, or damaged")
        places[key] = (place, size)
        place += size
    return places


def _memory(tensors: Iterable[Tensor]) -> int:
    """A limit for the bytes of `_arrays`: for each storage its tensors' or its own."""
    copies: dict[str, list[int]] = {}
    storages: dict[str, int] = {}
    for tensor in tensors:
        copies.setdefault(tensor.storage.key, []).append(tensor.nbytes)
        storages[tensor.storage.key] = tensor.storage.size * tensor.storage.dtype.itemsize
    kept = (max(sum(copies[key]), storages[key]) for key in copies)
    return sum(kept) + max(storages.values(), default=0)


def _arrays(tensors: dict[bytes, tuple[str, Tensor]], read: _Read) -> dict[bytes, np.ndarray]:
    """The array of each place, with at most one storage in memory."""
    places: dict[str, list[bytes]] = {}
    for place, (_, tensor) in tensors.items():
        places.setdefault(tensor.storage.key, []).append(place)
    arrays = {}
    for of_one in places.values():
        data = read(tensors[of_one[0]][1].storage)
        for place in of_one:
            arrays[place] = _array(*tensors[place], data, len(of_one) == 1)
    return arrays


def _array(name: str, tensor: Tensor, data: bytearray, is_alone: bool) -> np.ndarray:
    """The array of a tensor; raises unless all its numbers are within the storage."""
    storage, shape = tensor.storage, tensor.shape
    itemsize = storage.dtype.itemsize
    if len(data) != storage.size * itemsize:
        raise UnfitError(f"is damaged: {shown(name)} should have {storage.size} numbers")
    if 0 in shape:
        return np.zeros(shape, storage.dtype)
    steps = [(n - 1) * stride for n, stride in zip(shape, tensor.strides, strict=True)]
    flat = np.frombuffer(data, storage.dtype)
    if tensor.offset < 0 or tensor.offset + sum(steps) >= min(storage.last, flat.size):
        raise UnfitError(f"is damaged: {shown(name)} of shape {shape} leaves its array")
    # The stride along an axis of length one is not used, and may be anything.
    strides = [
        stride * itemsize if n > 1 else 0 for n, stride in zip(shape, tensor.strides, strict=True)
    ]
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], shape, strides)
    return view if is_alone and view.flags.c_contiguous else view.copy()
