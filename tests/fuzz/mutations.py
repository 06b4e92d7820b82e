"""Changes valid files: bytes of any kind, and the structure of those kinds that we read."""

import io
import json
import pickletools
import random
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Sequence

ODD_NUMBERS = (0, 1, 63, 64, 65, 2**15, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64)
ODD_TEXTS = ("", ".", "/", "a/b", "../x", "\x1b[31m\ntaken    a", "\0", "\ud800", "x" * 50_000)
ODD_VALUES = (
    *ODD_NUMBERS,
    *(-number for number in ODD_NUMBERS[1:]),
    *ODD_TEXTS,
    *(0.5, -3.0, 1e308, float("nan"), float("inf"), None, True, [], {}, {"a": 1}, [0] * 1000),
)
ODD_DTYPES = ("|O", "<f2", ">f8", "<c16", "|V2", "|S9", "<M8[s]", "<U100000000", "<f3", "('f4',)")


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """The bytes with a few changes, often such that their structure stays whole."""
    change = next(
        (each for start, each in _KINDS.items() if re.match(start, data, re.DOTALL)), None
    )
    if change is not None and rng.random() < 0.75:
        try:
            return change(rng, data)
        except Exception:
            pass  # it was changed before: what is left of it has no structure
    return plain(rng, data, others)


def plain(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Flips bits, overwrites, inserts, repeats, cuts, splices."""
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        other = rng.choice(others)
        data = rng.choice(
            (
                lambda d, at, _: d[:at] + bytes([rng.randrange(256)]) + d[at + 1 :],
                lambda d, at, _: d[:at] + _number(rng) + d[at:],
                lambda d, at, _: _overwritten(d, at, _number(rng)),
                lambda d, at, end: d[:at] + d[max(at, end - 2**12) :],
                lambda d, at, end: d[:end] + d[at:end][: 2**12] * rng.choice((1, 2, 50)) + d[end:],
                lambda d, at, _: d[:at],
                lambda d, at, end, other=other: d[:at] + other[at % (len(other) + 1) :],
                lambda d, *_: _number_in_text(rng, d),
            )
        )(data, at, end)
    return data


def _number(rng: random.Random) -> bytes:
    number = rng.choice(ODD_NUMBERS) * rng.choice((1, -1))
    size = rng.choice((1, 2, 4, 8))
    return (number % 2 ** (8 * size)).to_bytes(size, rng.choice(("little", "big")))


def _overwritten(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


def _number_in_text(rng: random.Random, data: bytes) -> bytes:
    found = list(re.finditer(rb"\d+", data))
    if not found:
        return data
    start, end = rng.choice(found).span()
    return data[:start] + str(rng.choice(ODD_NUMBERS)).encode() + data[end:]


def _json(rng: random.Random, data: bytes) -> bytes:
    tree = json.loads(data)
    for _ in range(rng.choice((1, 1, 3))):
        tree = _changed(rng, tree)
    text = json.dumps(tree)
    if rng.random() < 0.05:
        text = text.replace("0", "[" * 10**5, 1)
    return text.encode()


def _changed(rng: random.Random, node: object) -> object:
    """A tree of JSON with one odd value, one key more, less or twice."""
    if not isinstance(node, dict | list) or not node or rng.random() < 0.1:
        return rng.choice(ODD_VALUES)
    pairs = list(node.items() if isinstance(node, dict) else enumerate(node))
    index = rng.randrange(len(pairs))
    key, value = pairs[index]
    kind = rng.random()
    if kind < 0.7:
        pairs[index] = (key, _changed(rng, value))
    elif kind < 0.8:
        del pairs[index]
    else:
        pairs.append((rng.choice((str(key), *ODD_TEXTS)), value))
        if kind > 0.9:
            del pairs[index]
    return dict(pairs) if isinstance(node, dict) else [value for _, value in pairs]


def _zip(rng: random.Random, data: bytes) -> bytes:
    """Another content or name of an entry, packed again; or sizes and methods that lie."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    index, kind = rng.randrange(len(entries)), rng.random()
    name, contents = entries[index]
    if kind < 0.7:
        others = [content for _, content in entries]
        entries[index] = (name, mutated(rng, contents, others))
    elif kind < 0.8:
        entries[index] = (
            rng.choice((*(n for n, _ in entries), "../x", "a/b/c", "\x1b[1m")),
            contents,
        )
    elif kind < 0.9:
        entries.append(entries[index])
    else:
        del entries[index]
    packed = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, 14))
    with warnings.catch_warnings(), zipfile.ZipFile(packed, "w", method) as archive:
        warnings.simplefilter("ignore")  # of two entries of one name
        for name, contents in entries:
            archive.writestr(name, contents)
    return _with_false_header(rng, packed.getvalue()) if rng.random() < 0.15 else packed.getvalue()


def _with_false_header(rng: random.Random, data: bytes) -> bytes:
    """A zip archive with an odd number in the header of an entry."""
    headers = [found.start() for found in re.finditer(b"PK\x01\x02|PK\x03\x04|PK\x05\x06", data)]
    return _overwritten(data, rng.choice(headers) + rng.randrange(4, 46), _number(rng))


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


_OPERATIONS = (
    *(bytes([code]) for code in b"012(tldse]})auRbQN\x85\x86\x87\x88\x8f\x90\x91\x93\x94"),
    *(b"h" + bytes([place]) for place in range(6)),
    *(b"q" + bytes([place]) for place in range(6)),
    *(
        b"K\xff",
        b"J\xff\xff\xff\xff",
        b"\x8a\x08" + b"\xff" * 7 + b"\x7f",
        b"\x8a\xff" + b"\x7f" * 255,
    ),
    *(b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nFloatStorage\n", b"ctorch\nSize\n"),
    *(
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ccollections\nOrderedDict\n",
        _text("a"),
        _text("x\n"),
    ),
    *(
        b"(K\x01K\x02t",
        b"(" + b"K\x01" * 200 + b"t",
        b"]q\x05h\x05a",
        b"]" * 2000,
        b"G" + b"\x7f" * 8,
    ),
)


def _pickle(rng: random.Random, data: bytes) -> bytes:
    """Other operations in one of the pickles that the bytes begin with."""
    pickles, rest = [], data
    while rest and len(pickles) < 8:
        try:
            places = [place for *_, place in pickletools.genops(rest)]
        except ValueError:
            break
        pickles.append(
            [rest[a:b] for a, b in zip(places, [*places[1:], places[-1] + 1], strict=True)]
        )
        rest = rest[places[-1] + 1 :]
    operations = rng.choice(pickles)
    for _ in range(rng.choice((1, 1, 2, 5))):
        index = rng.randrange(len(operations))
        count, kind = rng.choice((1, 1, 1, 2, 300)), rng.randrange(5)
        other = rng.choice((rng.choice(_OPERATIONS), rng.choice(operations)))
        if kind == 0:
            del operations[index]
            operations = operations or [b"."]
        elif kind == 1:
            operations[index] = other
        elif kind == 2:
            operations.insert(index, other * count)
        else:
            operations[index] *= count + 1
    return b"".join(b"".join(each) for each in pickles) + rest


def _safetensors(rng: random.Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = _json(rng, data[8 : 8 + length])
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _npy(rng: random.Random, data: bytes) -> bytes:
    (length,) = struct.unpack_from("<H", data, 8)
    header = _number_in_text(rng, data[10 : 10 + length])
    if rng.random() < 0.3:
        header = re.sub(rb"'[<>|]\w+'", repr(rng.choice(ODD_DTYPES)).encode(), header)
    return data[:8] + struct.pack("<H", len(header)) + header + data[10 + length :]


_KINDS: dict[bytes, Callable[[random.Random, bytes], bytes]] = {
    rb"PK": _zip,
    rb"\x80": _pickle,
    rb"\x93NUMPY\x01": _npy,
    rb".{8}\{": _safetensors,
    rb"[\[{]": _json,
}
