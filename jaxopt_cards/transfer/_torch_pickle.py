"""PyTorch's description of a state_dict, read as text: a stack machine that cannot call anything.

A pickle is a program for a stack machine. Python's runs whatever the program asks for. This one
knows the few operations of which `torch.save` makes a state_dict, puts a `Tensor` where the program
asks to build one, and refuses all else by name.
"""

import dataclasses
import pickletools
from typing import Any

import ml_dtypes
import numpy as np

from jaxopt_cards.transfer._foreign import UnfitError

_STORAGES: dict[str, Any] = {
    "torch FloatStorage": np.float32,
    "torch DoubleStorage": np.float64,
    "torch HalfStorage": np.float16,
    "torch BFloat16Storage": ml_dtypes.bfloat16,
    "torch LongStorage": np.int64,
    "torch IntStorage": np.int32,
    "torch ShortStorage": np.int16,
    "torch CharStorage": np.int8,
    "torch ByteStorage": np.uint8,
    "torch BoolStorage": np.bool,
    "torch ComplexFloatStorage": np.complex64,
    "torch ComplexDoubleStorage": np.complex128,
    "torch.storage UntypedStorage": np.uint8,
}
# Younger dtypes have no storage of their own; their tensors name them beside bytes.
_DTYPES: dict[str, Any] = {
    "torch uint16": np.uint16,
    "torch uint32": np.uint32,
    "torch uint64": np.uint64,
    "torch float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "torch float8_e5m2": ml_dtypes.float8_e5m2,
}
_DICTIONARY = "collections OrderedDict"
_PARAMETER = "torch._utils _rebuild_parameter"
_TENSORS = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor_v3")
_KNOWN = {*_STORAGES, *_DTYPES, _DICTIONARY, _PARAMETER, *_TENSORS}

_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_CONTAINERS: dict[str, Any] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclasses.dataclass(frozen=True)
class Global:
    """The name of a thing in a Python module; never the thing itself."""

    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """An entry of the archive: numbers in a row."""

    key: str
    dtype: np.dtype
    size: int  # numbers in it


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and strides count numbers, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def unpickled(pickle: bytes) -> Any:
    """The dictionaries that a pickle describes, with a `Tensor` for each tensor."""
    return _Machine().run(pickle)


class _Machine:
    """Stack, marks and memo, as in `pickletools`."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, pickle: bytes) -> Any:
        """What the last operation leaves on the stack."""
        for opcode, argument, _ in pickletools.genops(pickle):
            self.step(opcode.name, argument)
        return self.stack.pop()

    def step(self, name: str, argument: Any) -> None:
        """One operation."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _CONTAINERS:
            stack.append(_CONTAINERS[name]())
        elif name in _TUPLES:
            stack[-_TUPLES[name] :] = [tuple(self.popped(_TUPLES[name]))]
        elif (operation := getattr(self, f"do_{name.lower()}", None)) is not None:
            operation(argument)
        else:
            raise UnfitError(f"asks for the operation {name}, which no state_dict needs")

    def popped(self, count: int) -> list[Any]:
        """The last values of the stack, left there for the caller to replace."""
        if len(self.stack) < count:
            raise UnfitError("is damaged: a value is missing in data.pkl")
        return self.stack[-count:]

    def since_mark(self) -> list[Any]:
        """The values since the last mark, taken from the stack."""
        values, self.stack = self.stack, self.marked.pop()
        return values

    def do_proto(self, _: Any) -> None:
        """The version of the language."""

    def do_stop(self, _: Any) -> None:
        """The end."""

    def do_mark(self, _: Any) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def do_tuple(self, _: Any) -> None:
        values = tuple(self.since_mark())
        self.stack.append(values)

    def do_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def do_setitems(self, _: Any) -> None:
        self.set_items(self.since_mark())

    def set_items(self, values: list[Any]) -> None:
        """Puts keys and values, in turn, into the dictionary on the stack."""
        (target,) = self.popped(1)
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Before it is looked up: to hash a tuple of tuples can take forever.
            if type(key) not in (str, int) or type(target) is not dict:
                raise UnfitError("has a key in data.pkl that is neither text nor a whole number")
            if key in target:
                raise UnfitError(f"has {key!r} twice")
            target[key] = value

    def do_append(self, _: Any) -> None:
        self.extend([self.stack.pop()])

    def do_appends(self, _: Any) -> None:
        self.extend(self.since_mark())

    def extend(self, values: list[Any]) -> None:
        """Puts values at the end of the list on the stack."""
        (target,) = self.popped(1)
        if type(target) is not list:
            raise UnfitError("is damaged: data.pkl appends to what is no list")
        target.extend(values)

    def do_binput(self, index: int) -> None:
        (self.memo[index],) = self.popped(1)

    do_long_binput = do_binput

    def do_binget(self, index: int) -> None:
        self.stack.append(self.memo[index])

    do_long_binget = do_binget

    def do_global(self, name: str) -> None:
        if name not in _KNOWN:
            raise UnfitError(
                f"asks for {name.replace(' ', '.')}, which no state_dict needs: save one with "
                "torch.save(model.state_dict(), path)"
            )
        self.stack.append(Global(name))

    def do_binpersid(self, _: Any) -> None:
        kind, storage, key, _device, size = self.stack.pop()
        if kind != "storage" or type(key) is not str or not _is_size(size):
            raise UnfitError("is damaged: data.pkl names an array by what is no name")
        self.stack.append(Storage(key, np.dtype(_STORAGES[storage.name]), size))

    def do_reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(_built(function.name, arguments))

    def do_build(self, _: Any) -> None:
        """Attributes of a dictionary: the versions of the layers, which say nothing of arrays."""
        self.stack.pop()
        if type(self.popped(1)[0]) is not dict:
            raise UnfitError("is damaged: data.pkl gives attributes to what has none")


def _built(name: str, arguments: tuple[Any, ...]) -> Any:
    """What the program asks to be made of the arguments."""
    if name == _DICTIONARY and arguments == ():
        return {}
    if name == _PARAMETER and isinstance(arguments[0], Tensor):
        return arguments[0]
    if name not in _TENSORS:
        raise UnfitError(f"asks to call {name.replace(' ', '.')}, which no state_dict needs")
    storage, offset, shape, strides = arguments[:4]
    is_v3 = name.endswith("v3")
    _check_metadata(arguments[7 if is_v3 else 6 :])
    if is_v3:
        dtype = np.dtype(_DTYPES[arguments[6].name])
        storage = Storage(storage.key, dtype, storage.size // dtype.itemsize)
    sizes = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or len(shape) != len(strides):
        raise UnfitError("is damaged: data.pkl has a tensor without an array")
    if not all(map(_is_size, sizes)):
        raise UnfitError(
            "is damaged: data.pkl has a tensor of sizes that are no whole numbers >= 0"
        )
    return Tensor(storage, offset, shape, strides)


def _check_metadata(rest: tuple[Any, ...]) -> None:
    """Raises if the numbers of a tensor are not those of its array, but their conjugates, say."""
    if any(rest):
        # Only its keys, which are text: the values can be endless.
        known = type(rest[0]) is dict
        kinds = " and ".join(str(key)[:60] for key in [*rest[0]][:3]) if known else "metadata"
        raise UnfitError(
            f"has a tensor with {kinds}, which is no plain array: save tensor.resolve_conj()"
            ".resolve_neg()"
        )


def _is_size(value: Any) -> bool:
    return type(value) is int and value >= 0
