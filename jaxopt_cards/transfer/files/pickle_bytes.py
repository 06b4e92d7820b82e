"""The bytes of a pickle, read in pieces, and the literals in them.

A pickle may declare a text of 2^63 letters or an integer of 2^31 bytes. Literals that are longer
than any name or number are skipped.
"""

import struct
from collections.abc import Callable, Iterator
from typing import Any

from jaxopt_cards.transfer.files.foreign import UnfitError

TEXT = 2**16  # bytes of a name, at most
INTEGER = 255  # bytes of a number, at most


class Other:
    """Stands for anything other than arrays and their names."""


OTHER = Other()


class Bytes:
    """A stream of bytes that arrive in pieces.

    Attributes:
        place: the number of bytes read.
    """

    def __init__(self, pieces: Iterator[bytes]) -> None:
        """Pieces are requested when they are needed."""
        self._pieces, self._buffer, self._at, self._before = pieces, b"", 0, 0

    @property
    def place(self) -> int:
        """The number of bytes read."""
        return self._before + self._at

    def next(self) -> int:
        """The next byte."""
        if self._at >= len(self._buffer):
            self._fill(1)
        self._at += 1
        return self._buffer[self._at - 1]

    def take(self, count: int) -> bytes:
        """The next bytes; raises at the end. The caller must limit the count."""
        end = self._at + count
        if end > len(self._buffer):
            self._fill(count)
            end = count
        taken = self._buffer[self._at : end]
        self._at = end
        return taken

    def skip(self, count: int) -> None:
        """Skips any number of bytes."""
        while count > (ready := len(self._buffer) - self._at):
            count -= ready
            self._at += ready
            self._fill(1)
        self._at += count

    def line(self) -> bytes | None:
        """The bytes of a line without its end; `None` if it is longer than a name."""
        is_short = True
        end = self._buffer.find(b"\n", self._at)
        while end < 0:
            known = len(self._buffer) - self._at
            if known > TEXT:
                is_short = False
                self.skip(known)
                known = 0
            self._fill(known + 1)
            end = self._buffer.find(b"\n", self._at + known)
        line = self._buffer[self._at : end]
        self._at = end + 1
        return line if is_short and len(line) <= TEXT else None

    def _fill(self, count: int) -> None:
        """Fills the buffer to at least this number of bytes."""
        parts = [self._buffer[self._at :]]
        self._before += self._at
        self._at = 0
        known = len(parts[0])
        while known < count:
            piece = next(self._pieces, None)
            if piece is None:
                raise UnfitError("is cut short: its pickle has no end")
            parts.append(piece)
            known += len(piece)
        self._buffer = b"".join(parts)


def _number(form: str) -> Callable[[Bytes], Any]:
    """Makes a reader of a number of fixed size."""
    unpack, size = struct.Struct(form).unpack, struct.calcsize(form)
    return lambda source: unpack(source.take(size))[0]


def _sized(form: str, convert: Callable[[bytes], Any], longest: int) -> Callable[[Bytes], Any]:
    """Makes a reader of bytes that follow their count."""
    count_of = _number(form)

    def read(source: Bytes) -> Any:
        count = count_of(source)
        if count < 0:
            raise UnfitError("is damaged: its pickle has a text of negative length")
        if count > longest:
            source.skip(count)
            return OTHER
        return convert(source.take(count))

    return read


def _lined(convert: Callable[[bytes], Any]) -> Callable[[Bytes], Any]:
    """Makes a reader of a line."""

    def read(source: Bytes) -> Any:
        line = source.line()
        return OTHER if line is None else convert(line)

    return read


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")


def _text_of_python_2(data: bytes) -> Any:
    """A string of Python 2, which may be text or bytes; text, if possible."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return OTHER


def _quoted(line: bytes) -> Any:
    """A text in quotes; names have no escaped characters."""
    return OTHER if b"\\" in line else _text_of_python_2(line[1:-1])


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _decimal(line: bytes) -> Any:
    """A decimal integer, with or without the L of Python 2; `00` and `01` are booleans."""
    if line in (b"00", b"01"):
        return line == b"01"
    return int(line.removesuffix(b"L")) if len(line) <= INTEGER else OTHER


# Readers of the operations that push a literal, by name.
LITERALS: dict[str, Callable[[Bytes], Any]] = {
    "NONE": lambda _: None,
    "NEWTRUE": lambda _: True,
    "NEWFALSE": lambda _: False,
    "EMPTY_TUPLE": lambda _: (),
    "EMPTY_LIST": lambda _: [],
    "EMPTY_DICT": lambda _: {},
    "EMPTY_SET": lambda _: OTHER,
    "BININT": _number("<i"),
    "BININT1": Bytes.next,
    "BININT2": _number("<H"),
    "LONG1": _sized("<B", _integer, INTEGER),
    "LONG4": _sized("<i", _integer, INTEGER),
    "INT": _lined(_decimal),
    "LONG": _lined(_decimal),
    "FLOAT": _lined(lambda line: float(line)),
    "BINFLOAT": _number(">d"),
    "UNICODE": _lined(lambda line: line.decode("raw-unicode-escape")),
    "BINUNICODE": _sized("<I", _text, TEXT),
    "BINUNICODE8": _sized("<Q", _text, TEXT),
    "SHORT_BINUNICODE": _sized("<B", _text, TEXT),
    "STRING": _lined(_quoted),
    "BINSTRING": _sized("<i", _text_of_python_2, TEXT),
    "SHORT_BINSTRING": _sized("<B", _text_of_python_2, TEXT),
    "BINBYTES": _sized("<I", lambda _: OTHER, 0),
    "BINBYTES8": _sized("<Q", lambda _: OTHER, 0),
    "SHORT_BINBYTES": _sized("<B", lambda _: OTHER, 0),
    "BYTEARRAY8": _sized("<Q", lambda _: OTHER, 0),
}
