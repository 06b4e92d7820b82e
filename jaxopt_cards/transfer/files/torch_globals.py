"""The names that a pickle of PyTorch may use, and the values that replace them."""

import dataclasses
import hashlib
from collections.abc import Iterable
from typing import Any

import ml_dtypes
import numpy as np

from jaxopt_cards.core.checks import escaped, shown
from jaxopt_cards.transfer.files.foreign import UnfitError, count_of
from jaxopt_cards.transfer.files.pickle_bytes import OTHER

_STORAGES: dict[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
}
_STORAGE_NAMES = {f"torch {name}": np.dtype(dtype) for name, dtype in _STORAGES.items()}
_STORAGE_NAMES["torch.storage UntypedStorage"] = np.dtype(np.uint8)
# Newer dtypes have no storage class: their tensors have storages of bytes, and name the dtype.
_FLOATS = ("e4m3fn", "e4m3fnuz", "e5m2", "e5m2fnuz", "e8m0fnu")
_DTYPE_NAMES = {f"torch uint{bits}": np.dtype(f"uint{bits}") for bits in (16, 32, 64)}
_DTYPE_NAMES |= {f"torch float8_{form}": np.dtype(f"float8_{form}") for form in _FLOATS}
# Types that occur beside the weights, but are never called.
_MENTIONED = {
    *(f"torch {name}int{bits}" for name in ("", "u") for bits in (*range(1, 9), 16, 32, 64)),
    *("torch bool", "torch float4_e2m1fn_x2", "torch bfloat16", "torch Tensor"),
    *(f"torch float{bits}" for bits in (16, 32, 64)),
    *(f"torch complex{bits}" for bits in (32, 64, 128)),
    *(f"builtins {name}" for name in ("int", "float", "str", "bool", "list", "tuple", "object")),
    *("builtins long", "builtins unicode"),  # of Python 2
}
_VALUES = {  # functions of values other than arrays, which are not called
    "_codecs encode",
    *(f"builtins {name}" for name in ("bytearray", "bytes", "complex", "frozenset", "set")),
    *("numpy dtype", "numpy._core.multiarray scalar"),
    *("torch device", "torch.serialization _get_layout"),
}
_DICTIONARIES = {
    *(f"collections {name}" for name in ("Counter", "OrderedDict", "defaultdict")),
    "builtins dict",
}
_UTILS = "torch._utils _rebuild_"
# Functions that wrap a tensor.
_WRAPPED = {f"{_UTILS}{of}" for of in ("parameter", "parameter_with_state")}
_WRAPPED |= {f"{_UTILS}device_tensor_from_cpu_tensor", "torch.nn.parameter Parameter"}
_TENSORS = {f"{_UTILS}tensor": 4, f"{_UTILS}tensor_v2": 6, f"{_UTILS}tensor_v3": 7}
_SUBCLASS = "torch._tensor _rebuild_from_type_v2"
_SIZE = "torch Size"
_KNOWN = {*_STORAGE_NAMES, *_DTYPE_NAMES, *_MENTIONED, *_VALUES, *_DICTIONARIES}
_KNOWN |= {*_WRAPPED, *_TENSORS, _SUBCLASS, _SIZE}
_REFUSED = {
    "sparse_": "a sparse tensor, which is not a plain array: save tensor.to_dense()",
    "qtensor": "a quantised tensor, which is not a plain array: save tensor.dequantize()",
    "nested_tensor": "a nested tensor, which is not a plain array: save those of tensor.unbind()",
    "meta_tensor": "a tensor of the device meta, which has no numbers",
    "wrapper_subclass": "a tensor of a subclass: save a plain tensor",
    "device_tensor": "a tensor of another device: save tensor.cpu()",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Global:
    """The name of a Python object; never the object itself."""

    name: str


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """A row of numbers in the file, or a part of it, as in PyTorch before 0.4."""

    key: str
    dtype: np.dtype
    size: int  # numbers in the whole row
    first: int  # start and end of the part
    last: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """An immutable view of a storage; offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def place(self) -> bytes:
        """A key that is equal for equal views of the same storage.

        A cryptographic hash, since a file could have many tuples with the same hash in Python.
        """
        text = repr((self.storage, self.offset, self.shape, self.strides))
        return hashlib.blake2b(text.encode(), digest_size=16).digest()

    @property
    def nbytes(self) -> int:
        """Bytes of a separate array."""
        return count_of(self.shape, self.storage.dtype.itemsize) * self.storage.dtype.itemsize


class Key:
    """A key that is neither text nor a small integer, and could take forever to hash.

    Attributes:
        text: the key as text, if it is short.
    """

    def __init__(self, key: Any) -> None:
        """Only scalars and short tuples of them have a text."""
        parts = key if type(key) is tuple and len(key) <= 8 else (key,)
        plain = (int, float, bool, type(None))
        is_plain = all(type(p) in plain or (type(p) is str and len(p) <= 100) for p in parts)
        self.text = str(key) if is_plain else None


def put(target: Any, pairs: Iterable[tuple[Any, Any]]) -> None:
    """Adds keys and values to a dictionary."""
    if type(target) is not dict:
        raise UnfitError("is damaged: its pickle has keys for something that is not a dictionary")
    for key, value in pairs:
        is_plain = type(key) is str or (type(key) is int and abs(key) < 2**60)
        if is_plain and key in target:
            raise UnfitError(f"has {shown(key)} twice")
        target[key if is_plain else Key(key)] = value


def known(module: str, name: str) -> Global:
    """The name of an object; raises unless checkpoints use it."""
    module = {"__builtin__": "builtins", "numpy.core.multiarray": "numpy._core.multiarray"}.get(
        module, module
    )
    path = f"{module} {name}"
    if path in _KNOWN:
        return Global(path)
    refused = (words for part, words in _REFUSED.items() if path.startswith(_UTILS + part))
    words = _REFUSED["qtensor"] if path.startswith("torch Q") else next(refused, None)
    if words is not None:
        raise UnfitError(f"has {words}")
    raise UnfitError(
        f"asks for {escaped(path.replace(' ', '.'), 200)}, which no state_dict needs: save one "
        "with torch.save(model.state_dict(), path)"
    )


def storage(kind: Any, key: Any, size: Any, part: Any = None) -> Storage:
    """The storage of a persistent identifier."""
    first, last = 0, size
    if type(part) is tuple and len(part) == 3:
        _, first, count = part
        last = first + count if _is_size(first) and _is_size(count) else None
    is_named = type(kind) is Global and kind.name in _STORAGE_NAMES
    is_named = is_named and type(key) is str and len(key) <= 100
    if not is_named or not _is_size(size) or not _is_size(last) or last > size:
        raise UnfitError("is damaged: its pickle has an invalid reference to an array")
    return Storage(key, _STORAGE_NAMES[kind.name], size, first, last)


def built(name: str, arguments: tuple[Any, ...]) -> Any:
    """The value that replaces the result of a call."""
    if name in _VALUES:
        return OTHER
    if name in _DICTIONARIES:
        return _dictionary(arguments)
    if name == _SIZE and len(arguments) == 1 and type(arguments[0]) is tuple:
        return arguments[0]
    if name == _SUBCLASS and len(arguments) == 4 and type(arguments[0]) is Global:
        name, arguments = arguments[0].name, arguments[2]  # without its class and attributes
    count = len(arguments) if type(arguments) is tuple else 0
    if name in _WRAPPED and count and type(arguments[0]) is Tensor:
        return arguments[0]
    if name in _TENSORS and count >= _TENSORS[name]:
        return _tensor(name, arguments)
    raise UnfitError(f"asks to call {name.replace(' ', '.')} as no state_dict does")


def _dictionary(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """A dictionary, from the one of a counter or the items of Python 2."""
    first = arguments[0] if arguments else None
    if type(first) is dict:
        return first
    found: dict[Any, Any] = {}
    if type(first) is list:
        # Empties the list, since the pickle could make many dictionaries of it.
        pairs, first[:] = [*first], []
        if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
            raise UnfitError("is damaged: its pickle has a dictionary made of invalid items")
        put(found, (tuple(pair) for pair in pairs))
    return found


def _tensor(name: str, arguments: tuple[Any, ...]) -> Tensor:
    """A tensor, whose numbers are read after the whole description."""
    source, offset, shape, strides = arguments[:4]
    is_v3 = name.endswith("v3")
    _check_metadata(arguments[7 if is_v3 else 6 :])
    if type(source) is not Storage:
        raise UnfitError("is damaged: its pickle has a tensor without an array")
    if is_v3:
        source = _typed(source, arguments[6])
    count_of(shape, source.dtype.itemsize)
    if type(strides) is not tuple or len(strides) != len(shape):
        raise UnfitError("is damaged: its pickle has a tensor with more or fewer strides than axes")
    if not all(map(_is_size, (offset, *strides))):
        raise UnfitError(
            "is damaged: a tensor has strides that are not whole numbers in [0, 2**63)"
        )
    return Tensor(source, source.first + offset, shape, strides)


def _typed(source: Storage, dtype: Any) -> Storage:
    """Converts a storage of bytes to one of numbers."""
    if type(dtype) is not Global or dtype.name not in _DTYPE_NAMES:
        kind = dtype.name.replace(" ", ".") if type(dtype) is Global else "nothing"
        raise UnfitError(f"has a tensor of dtype {kind}, which NumPy does not have")
    itemsize = (found := _DTYPE_NAMES[dtype.name]).itemsize
    places = (source.size, source.first, source.last)
    if source.dtype.itemsize != 1 or any(place % itemsize for place in places):
        raise UnfitError(f"is damaged: its pickle has a tensor with a part of a {found}")
    return Storage(source.key, found, *(place // itemsize for place in places))


def _check_metadata(rest: tuple[Any, ...]) -> None:
    """Raises if a tensor is not a plain array, such as a conjugate view."""
    if any(rest):
        # Only keys that are text, since values can be endless.
        keys = [*rest[0]][:3] if type(rest[0]) is dict else []
        kinds = " and ".join(escaped(key, 60) for key in keys if type(key) is str) or "metadata"
        raise UnfitError(
            f"has a tensor with {kinds}, which is not a plain array: save tensor.resolve_conj()"
            ".resolve_neg()"
        )


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63
