"""A reader of untrusted zip archives: declared sizes are verified, and entries read in pieces.

Python's `zipfile` unpacks bzip2 and LZMA without a limit, creates an object for each of any number
of entries, and lets entries overlap. This reader supports only stored and deflated entries.
"""

import dataclasses
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from jaxopt_cards.core.checks import shown
from jaxopt_cards.transfer.files.foreign import LETTERS, UnfitError, check_size, kind_of

ENTRIES = 100_000  # more than the arrays of any network
PIECE = 2**20  # bytes in memory at a time

_STORED, _DEFLATED = 0, 8
_UNKNOWN = 2**32 - 1
_ZIP64, _FIELDS = 1, 16  # the extra field for large numbers, and how many fields are searched
_UTF8 = 0x800
_FLAGS = 0x080E  # allowed: level of deflate, sizes after the data, names in UTF-8
_DANGER = re.compile(r"^/|\\|(^|/)\.\.(/|$)|[\x00-\x1f]|^\w:")
_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")


@dataclasses.dataclass(slots=True)
class Entry:
    """An entry in the archive's directory."""

    name: str
    raw_name: bytes
    method: int
    crc: int
    packed: int  # bytes in the archive
    size: int  # bytes once unpacked
    start: int  # of its local header, before its data
    end: int = 0  # where the next entry starts


class Archive:
    """A zip archive with a verified directory; entries are verified while they are read.

    Attributes:
        entries: the entries of the directory, by name.
    """

    def __init__(self, file: BinaryIO, entries: Mapping[str, Entry]) -> None:
        """Use `zip_archive` instead."""
        self._file, self.entries = file, entries

    def read(self, name: str) -> bytearray:
        """All bytes of an entry."""
        whole = bytearray()
        for piece in self.pieces(name):
            whole += piece
        return whole

    def copy(self, name: str, target: BinaryIO) -> None:
        """Writes the bytes of an entry to a file, piece by piece."""
        target.writelines(self.pieces(name))

    def pieces(self, name: str) -> Iterator[bytes]:
        """The bytes of an entry, at most `PIECE` at a time; raises at the end if they differ."""
        entry = self.entries[name]
        packed = _packed(self._file, entry)
        count = crc = 0
        for piece in packed if entry.method == _STORED else _inflated(packed, entry):
            count, crc = count + len(piece), zlib.crc32(piece, crc)
            if count > entry.size:
                raise UnfitError(f"is damaged: {shown(entry.name)} has more bytes than it declares")
            yield piece
        if (count, crc) != (entry.size, entry.crc):
            raise UnfitError(f"is damaged: {shown(entry.name)} has other bytes than it declares")


def zip_archive(file: BinaryIO, max_bytes: int) -> Archive:
    """A zip archive; raises if its directory is dangerous or exceeds a limit."""
    if (kind := kind_of(file)) != "a zip archive":
        raise UnfitError(f"is not a zip archive, but {kind}")
    count, place, end = _directory(file)
    found = sorted(_entries(file, count, place, end), key=lambda entry: entry.start)
    entries: dict[str, Entry] = {}
    for entry, start in zip(found, [*[entry.start for entry in found[1:]], place], strict=False):
        if entry.start + _LOCAL.size + len(entry.raw_name) + entry.packed > start:
            raise UnfitError(f"is damaged: the entry {shown(entry.name)} runs into the next")
        if entry.name in entries:
            raise UnfitError(f"has two entries of one name, {shown(entry.name)}")
        entry.end = start
        entries[entry.name] = entry
    check_size(sum(entry.size for entry in found), max_bytes)
    return Archive(file, entries)


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """The number of entries, and the start and the end of the directory."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - 2**16))
    tail = file.read()
    index = tail.rfind(b"PK\5\6")
    if index < 0 or len(tail) - index < _END.size:
        raise UnfitError("is cut short")
    _, disk, disks, _, count, length, place, comment = _END.unpack_from(tail, index)
    end = size - len(tail) + index
    if (located := index - _LOCATOR.size) >= 0 and tail[located:].startswith(b"PK\6\7"):
        _, _, end, _ = _LOCATOR.unpack_from(tail, located)
        file.seek(min(end, size))
        if not (record := file.read(_END64.size)).startswith(b"PK\6\6"):
            raise UnfitError("is damaged: the end of the zip archive is not where it says")
        *_, disk, disks, _, count, length, place = _END64.unpack(record.ljust(_END64.size))
    if disk or disks or place + length != end or index + _END.size + comment != len(tail):
        raise UnfitError("is damaged: the directory of the zip archive is not where it says")
    if count > ENTRIES:
        raise UnfitError(f"has {count} entries, more than {ENTRIES}")
    return count, place, end


def _entries(file: BinaryIO, count: int, place: int, end: int) -> Iterator[Entry]:
    """The entries of the directory."""
    letters = 0
    file.seek(place)
    for _ in range(count):
        fields = file.read(_CENTRAL.size)
        if not fields.startswith(b"PK\1\2") or len(fields) < _CENTRAL.size:
            raise UnfitError("is damaged: the directory of the zip archive ends early")
        _, _, _, flags, method, _, _, crc, packed, size, *rest = _CENTRAL.unpack(fields)
        length, more, comment, *_, start = rest
        if (letters := letters + length) > LETTERS:
            raise UnfitError(f"has names of more than {LETTERS} letters")
        raw_name, extra = file.read(length), file.read(more)
        file.seek(comment, 1)
        size, packed, start = _wide((size, packed, start), extra)
        try:
            name = raw_name.decode("utf-8" if flags & _UTF8 else "cp437")
        except UnicodeDecodeError:
            raise UnfitError(f"is damaged: it has an entry of the name {shown(raw_name)}") from None
        entry = Entry(name, raw_name, method, crc, packed, size, start)
        _check(entry, flags)
        yield entry
    if file.tell() != end:
        raise UnfitError("is damaged: the directory of the zip archive has another length")


def _check(entry: Entry, flags: int) -> None:
    """Raises unless an entry is supported and safe."""
    if _DANGER.search(entry.name) or flags & ~_FLAGS:
        raise UnfitError(
            f"has the entry {shown(entry.name)}, which is encrypted or leads elsewhere"
        )
    if entry.method not in (_STORED, _DEFLATED):
        raise UnfitError(
            f"has the entry {shown(entry.name)}, compressed by method {entry.method}: only stored "
            "and deflated ones are read"
        )
    if entry.method == _STORED and entry.packed != entry.size:
        raise UnfitError(f"is damaged: {shown(entry.name)} has other bytes than it declares")


def _wide(numbers: tuple[int, int, int], extra: bytes) -> Iterator[int]:
    """The numbers of an entry; those of more than 32 bits are in its extra fields."""
    place = 0
    for _ in range(_FIELDS):
        kind, length = struct.unpack_from("<2H", extra.ljust(place + 4, b"\0"), place)
        if kind == _ZIP64:
            break
        place += 4 + length
    for number in numbers:
        if number == _UNKNOWN:
            if place + 12 > len(extra):
                raise UnfitError("is damaged: the directory of the zip archive lacks a size")
            (number,) = struct.unpack_from("<Q", extra, place + 4)
            place += 8
        yield number


def _packed(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """The packed bytes of an entry; raises unless its local header agrees with the directory."""
    file.seek(entry.start)
    header = file.read(_LOCAL.size)
    if not header.startswith(b"PK\3\4") or len(header) < _LOCAL.size:
        raise UnfitError(f"is damaged: the entry {shown(entry.name)} is not where it should be")
    _, _, _, method, _, _, *said, length, more = _LOCAL.unpack(header)
    known = (entry.crc, entry.packed, entry.size)
    # Sizes may come after the data, where they are not read, or be too large for 32 bits.
    same = all(a == b or a in (0, _UNKNOWN) for a, b in zip(said, known, strict=True))
    same = same and method == entry.method and file.read(length) == entry.raw_name
    end = (place := entry.start + _LOCAL.size + length + more) + entry.packed
    if not same or end > entry.end:
        raise UnfitError(
            f"is damaged: the entry {shown(entry.name)} is another than the directory's"
        )
    for start in range(place, end, PIECE):
        file.seek(start)
        yield file.read(min(PIECE, end - start))


def _inflated(packed: Iterator[bytes], entry: Entry) -> Iterator[bytes]:
    """Unpacks deflated bytes."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    left = b""
    try:
        for left in packed:
            while left and not unpacker.eof:
                yield unpacker.decompress(left, PIECE)
                left = unpacker.unconsumed_tail
            if left or unpacker.unused_data:
                break
        while not unpacker.eof and (rest := unpacker.decompress(b"", PIECE)):
            yield rest
    except zlib.error:
        pass
    if left or unpacker.unused_data or not unpacker.eof:
        raise UnfitError(f"is damaged: {shown(entry.name)} cannot be unpacked")
