"""An unpickler for PyTorch's state_dicts, a stack machine that cannot call anything.

A pickle is a program for a stack machine, and Python's executes any program. This one knows only
the operations that `torch.save` needs. It creates a `Tensor` where the program builds one, and
`OTHER` for other harmless values, and refuses the rest.

Values on the stack are hashed, compared or printed only if they are known to be small: the program
may build lists that contain themselves, or tuples whose size doubles with each operation.
"""

import pickletools
import re
import sys
from collections.abc import Callable
from typing import Any

from jaxopt_cards.core.checks import escaped
from jaxopt_cards.transfer.files.foreign import UnfitError
from jaxopt_cards.transfer.files.pickle_bytes import LITERALS, OTHER, Bytes
from jaxopt_cards.transfer.files.torch_globals import (
    Global,
    Storage,
    Tensor,
    built,
    known,
    put,
    storage,
)

OPERATIONS = 1_000_000  # enough for 25,000 tensors, and about half a second
_COST = 100  # most bytes of memory of an operation, besides its text
_MORE = 3  # operations for which a container counts, since Python's garbage collector tracks it

_NAMES = {ord(op.code): op.name for op in pickletools.opcodes}
_LITERALS = {code: LITERALS[name] for code, name in _NAMES.items() if name in LITERALS}
_CONTAINERS = frozenset(b"(]}\x85\x86\x87")
_STOP = ord(".")
_PERSISTENT = re.compile(
    r"\('storage', <class '(torch(?:\.\w+)*)\.(\w+)'>, '([^']*)', '[^']*', (\d{1,19})(?:, None)?\)"
)
_DAMAGES = (LookupError, TypeError, AttributeError, ValueError, OverflowError)


def unpickled(source: Bytes, memory: int, storages: dict[str, Storage] | None = None) -> Any:
    """The dictionaries that a pickle describes, with a `Tensor` for each tensor.

    Args:
        source: bytes from the start of the pickle; read up to its end.
        memory: limit for the bytes of the result.
        storages: filled with the named storages, the first of each key.
    """
    machine = _Machine(source, {} if storages is None else storages)
    try:
        return machine.run(memory)
    except UnfitError:
        raise
    except _DAMAGES:
        at = f"at byte {source.place}"
        raise UnfitError(f"is damaged: its pickle asks {at} for a missing value") from None


class _Machine:
    """A machine with stack, marks and memo, as in `pickletools`."""

    def __init__(self, source: Bytes, storages: dict[str, Storage]) -> None:
        self.source, self.storages = source, storages
        self.stack: list[Any] = []
        self.marked: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.more = 0  # further operations for which the last one counts

    def run(self, memory: int) -> Any:
        """Runs the program, and returns the last value on the stack."""
        source, left = self.source, min(memory // _COST, OPERATIONS)
        while (code := source.next()) != _STOP:
            if (literal := _LITERALS.get(code)) is not None:
                self.stack.append(value := literal(source))
                left -= sys.getsizeof(value) // _COST  # a long text or integer
            elif (operation := _OPERATIONS.get(code)) is not None:
                operation(self)
                left -= self.more
                self.more = 0
            else:
                name = _NAMES.get(code, code)
                raise UnfitError(f"asks for the operation {name}, which no state_dict needs")
            left -= _MORE if code in _CONTAINERS else 1
            if left < 0:
                raise UnfitError("is damaged: its pickle describes more than fits in max_bytes")
        return self.stack.pop()

    def top(self, count: int) -> list[Any]:
        """The last values of the stack, which stay there."""
        if len(self.stack) < count:
            raise UnfitError("is damaged: a value is missing in its pickle")
        return self.stack[-count:]

    def push(self, value: Any) -> None:
        """Pushes a value onto the stack."""
        self.stack.append(value)

    def join(self, count: int) -> None:
        """Makes a tuple of the last values of the stack."""
        self.stack[-count:] = [tuple(self.top(count))]

    def keep(self, place: int) -> None:
        """Puts the value on the stack into the memo."""
        (self.memo[place],) = self.top(1)

    def since_mark(self) -> list[Any]:
        """Removes the values since the last mark from the stack, and returns them."""
        values, self.stack = self.stack, self.marked.pop()
        return values

    def do_mark(self) -> None:
        self.marked.append(self.stack)
        self.stack = []

    def do_pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def do_dict(self) -> None:
        values = self.since_mark()
        self.stack.append({})
        self.set_items(values)

    def do_frozenset(self) -> None:
        self.since_mark()
        self.stack.append(OTHER)

    def do_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_items([key, value])

    def set_items(self, values: list[Any]) -> None:
        """Adds alternating keys and values to the dictionary on the stack."""
        (target,) = self.top(1)
        put(target, zip(values[::2], values[1::2], strict=True))

    def extend(self, values: list[Any]) -> None:
        """Appends values to the list on the stack."""
        (target,) = self.top(1)
        if type(target) is not list:
            raise UnfitError("is damaged: its pickle appends to something that is not a list")
        target.extend(values)

    def do_additems(self) -> None:
        self.since_mark()
        if self.top(1)[0] is not OTHER:
            raise UnfitError("is damaged: its pickle adds to something that is not a set")

    def number(self, size: int) -> int:
        """An index of the memo, as bytes."""
        return int.from_bytes(self.source.take(size), "little")

    def index(self) -> int:
        """An index of the memo, as a decimal."""
        line = self.source.line()
        if line is None or not re.fullmatch(rb"\d{1,10}", line):
            raise UnfitError("is damaged: its pickle has a memo index that is not a number")
        return int(line)

    def do_global(self) -> None:
        module, name = (self.source.line() or b"?" for _ in range(2))
        self.stack.append(known(module.decode(), name.decode()))

    def do_stack_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        if type(name) is not str or type(module) is not str:
            raise UnfitError("is damaged: its pickle has an invalid name of a function or class")
        self.stack.append(known(module, name))

    def do_inst(self) -> None:
        self.do_global()
        raise UnfitError("asks for the operation INST, which no state_dict needs")

    def do_persid(self) -> None:
        """A storage as printed text, as in the oldest protocol."""
        line = (self.source.line() or b"?").decode()
        if (found := _PERSISTENT.fullmatch(line)) is None:
            raise UnfitError(
                "is damaged: its pickle has an array reference that is not PyTorch's: "
                f"{escaped(line, 60)}"
            )
        module, name, key, size = found.groups()
        self.push_storage(known(module, name), key, int(size))

    def do_binpersid(self) -> None:
        parts = self.stack.pop()
        if type(parts) is not tuple or len(parts) not in (5, 6) or parts[0] != "storage":
            raise UnfitError("is damaged: its pickle has an invalid reference to an array")
        _, kind, key, _, size, *part = parts
        self.push_storage(kind, key, size, *part)

    def push_storage(self, *parts: Any) -> None:
        """Pushes a storage onto the stack."""
        self.stack.append(found := storage(*parts))
        self.storages.setdefault(found.key, found)

    def do_reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Global or type(arguments) is not tuple:
            raise UnfitError("is damaged: its pickle calls something that is not a function")
        self.stack.append(value := built(function.name, arguments))
        if type(value) is Tensor:
            self.more = len(value.shape)  # each size is checked

    def do_build(self) -> None:
        """Ignores attributes of a dictionary: the versions of layers."""
        self.stack.pop()
        if type(self.top(1)[0]) is not dict and self.top(1)[0] is not OTHER:
            raise UnfitError("is damaged: its pickle sets attributes of a value without attributes")


_SHORT: dict[str, Callable[[_Machine], object]] = {
    "PROTO": lambda machine: machine.source.take(1),
    "FRAME": lambda machine: machine.source.take(8),
    "POP_MARK": _Machine.since_mark,
    "DUP": lambda machine: machine.push(machine.top(1)[0]),
    "TUPLE": lambda machine: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine: machine.join(1),
    "TUPLE2": lambda machine: machine.join(2),
    "TUPLE3": lambda machine: machine.join(3),
    "LIST": lambda machine: machine.push(machine.since_mark()),
    "SETITEMS": lambda machine: machine.set_items(machine.since_mark()),
    "APPEND": lambda machine: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine: machine.extend(machine.since_mark()),
    "MEMOIZE": lambda machine: machine.keep(len(machine.memo)),
    "PUT": lambda machine: machine.keep(machine.index()),
    "BINPUT": lambda machine: machine.keep(machine.number(1)),
    "LONG_BINPUT": lambda machine: machine.keep(machine.number(4)),
    "GET": lambda machine: machine.push(machine.memo[machine.index()]),
    "BINGET": lambda machine: machine.push(machine.memo[machine.number(1)]),
    "LONG_BINGET": lambda machine: machine.push(machine.memo[machine.number(4)]),
    "NEWOBJ": lambda machine: machine.do_reduce(),
}
_LONG = {name: getattr(_Machine, f"do_{name.lower()}", None) for name in _NAMES.values()}
_OPERATIONS = {code: _SHORT.get(name) or _LONG[name] for code, name in _NAMES.items()}
