"""What a stranger might send: refused in a line, in a second, in memory in proportion to it."""

import json
import re
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from jaxopt_cards import transfer
from jaxopt_cards.transfer.files.foreign import UnfitError
from jaxopt_cards.transfer.files.pickle_bytes import Bytes
from jaxopt_cards.transfer.files.torch_pickle import unpickled
from tests.transfer.torch_programs import (
    HOOKS,
    REBUILD,
    dictionary,
    in_a_row,
    in_zip,
    integer,
    storage,
    tensor,
    text,
)

MAX_BYTES = 10**6
ONE = integer(1)
A_STORAGE = storage(size=1)
A_TENSOR = tensor(0, (1,), (1,), A_STORAGE)
MEMORY = "describes more than fits in max_bytes"
NUMBER = {"k0": np.zeros(1, "f4")}

# Reads each file with as much memory as it may have, beside what Python and its libraries have.
READER = """
import json, os, resource, sys, time
import safetensors
from jaxopt_cards import transfer

READERS = {"npz": transfer.from_numpy, "safetensors": transfer.from_safetensors}
for path in sys.argv[2:]:
    reader = READERS.get(path.rpartition(".")[2], transfer.from_torch)
    for max_bytes in (int(sys.argv[1]), 2**33):
        taken = int(open("/proc/self/statm").read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        limit = taken + 3 * os.path.getsize(path) + min(max_bytes, 2**28) + 2**24
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        start = time.process_time()
        try:
            said = f"read {sorted(reader(path, max_bytes=max_bytes))[:9]}"
        except ValueError as error:
            said = str(error)
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        seconds = time.process_time() - start
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        print(json.dumps([os.path.basename(path), seconds, said]), flush=True)
"""


def grown(*appends):
    """Shape and strides are lists, which get longer once the tensor was built."""
    program = REBUILD + b"(" + A_STORAGE + integer(0) + b"]q\1]q\2" + HOOKS + b"tR"
    for length, stride in appends:
        program += b"h\1" + integer(length) + b"a0h\2" + integer(stride) + b"a0"
    return program


def shared(shape, count):
    """Many tensors of one shape, which the pickle keeps once."""
    start = REBUILD + b"q\1" + A_STORAGE + b"q\2" + shape + b"q\3" + b"00"
    one = b"(h\2" + integer(0) + b"h\3h\3" + HOOKS + b"tR"
    return start + b"0}(" + b"".join(integer(i) + b"h\1" + one for i in range(count)) + b"u"


def doubled(levels):
    """A tuple of two of a tuple of two: little to write, endless to hash or to print."""
    return b")" + b"2\x86" * levels


def items(count, start=b"", end=b""):
    return b"".join(start + integer(i) + b"N" + end for i in range(count))


def called(name, argument, count):
    """A function that is called many times with one argument, which the pickle keeps once."""
    return argument + b"q\1" + b"0c" + name + b"\nq\2" + b"0h\2h\1\x85R" * count


FROM_TYPE = b"ctorch._tensor\n_rebuild_from_type_v2\n"
HUGE = b"\x8a\xff" + b"\xff" * 254 + b"\x7f"
COLLIDING = b"".join(
    b"\x8a\x0a" + (index * (2**61 - 1)).to_bytes(10, "little") + b"N" for index in range(10**5)
)


def strides_of_one_hash(count):
    """Pairs of numbers whose tuples Python puts in the same place of a dictionary."""
    one, two, five = 11400714785074694791, 14029467366897019727, 2870177450012600261
    pairs, x = [], 0
    while len(pairs) < count:
        x += 1
        mixed = (five + x * two) % 2**64
        mixed = ((mixed << 31 | mixed >> 33) * one) % 2**64
        y = (7 - mixed) * pow(two, -1, 2**64) % 2**64
        if y < 2**60:
            pairs.append((x, y))
    return pairs


def views_of_one_hash(count):
    """Tensors of one number, whose strides say nothing: all are read."""
    start = REBUILD + b"q\1" + A_STORAGE + b"q\2" + b"(K\1K\1tq\3" + b"000}("
    views = (
        integer(x) + b"h\1(h\2K\0h\3(" + integer(x) + integer(y) + b"t" + HOOKS + b"tR"
        for x, y in strides_of_one_hash(count)
    )
    return start + b"".join(views) + b"u"


# Programs, and what is said of them with little memory, or with much.
def under_many_names(count):
    """One tensor of 64 axes, whose strides take long to print."""
    start = b"}(" + text("a") + tensor(0, (1,) * 64, (2**62,) * 64, A_STORAGE) + b"q\1"
    return start + b"".join(integer(i) + b"h\1" for i in range(count)) + b"u"


PROGRAMS = {
    "one under many names": (under_many_names(10**5), f"{MEMORY}|read"),
    "outside": (dictionary(("a", grown((2, 2**40), (2, -(2**40))))), "a shape must be a tuple"),
    "dimensions": (shared(b"(" + ONE * 10**5 + b"t", 5000), "must be a tuple of at most 64 sizes"),
    "sizes": (shared(b"(" + HUGE * 64 + b"t", 99), r"are not whole numbers in \[0, 2\*\*63\)"),
    "product": (shared(b"(" + integer(2**62) * 64 + b"t", 99), "is larger than any memory"),
    "of nothing": (shared(b"(K\0" + integer(2**62) * 63 + b"t", 9), "is larger than any memory"),
    "negative": (dictionary(("a", tensor(-1, (1,), (1,)))), "strides that are not whole numbers"),
    "far": (dictionary(("a", tensor(0, (2,), (2**62,), A_STORAGE))), r"of shape \(2,\) leaves its"),
    "wide": (dictionary(("a", tensor(0, (2**40,), (0,), A_STORAGE))), "would take 4398046511104"),
    "expanded": (
        dictionary(*[(str(i), tensor(0, (2**18 + i,), (0,), A_STORAGE)) for i in range(99)]),
        r"would take \d+ bytes|read",
    ),
    "names": (b"}" + text("K" * 50_000) + shared(ONE + b"\x85", 900) + b"s", "has names of more"),
    "keys": (b"}(" + COLLIDING + b"u", "holds no arrays"),
    "views": (views_of_one_hash(4000), "read"),
    "long key": (tensor(of=storage(key="K" * 101)), "has an invalid reference to an array"),
    "key without end": (b"}" + doubled(99) + A_TENSOR + b"s", "under a key that is not text"),
    "size without end": (shared(doubled(99), 9), "is damaged"),
    "itself": (
        b"}q\1(" + text("a") + b"h\1" + text("b") + A_TENSOR + b"u",
        "dictionaries that never end",
    ),
    "list of itself": (b"]q\1h\1a", "is not a dictionary of tensors, but a list"),
    "doubled": (
        b"}" + (b"q\1}(" + text("a") + b"h\1" + text("b") + b"h\1u") * 60,
        "dictionaries that never end",
    ),
    "counted": (
        called(b"collections\nCounter", b"}(" + items(10**4) + b"u", 10**4),
        "holds no arrays",
    ),
    "items": (
        called(b"collections\nOrderedDict", b"](" + items(10**4, b"(", b"t") + b"e", 10**4),
        "holds no arrays",
    ),
    "nones": (b"N" * 10**7, MEMORY),
    "lists": (b"]" * 10**6, MEMORY),
    "marks": (b"(" * 10**6, MEMORY),
    "nested": (b"]" * 10**5 + b"a" * (10**5 - 1), "but a list"),
    "letters": (text("🙂" + "a" * 60_000) * 100, "but a str"),
    "huge text": (b"\x8d" + struct.pack("<Q", 2**62) + b"text", "is cut short"),
    "huge bytes": (b"\x8e" + struct.pack("<Q", 2**63) + b"text", "is cut short"),
    "huge array": (b"\x96" + struct.pack("<Q", 2**33) + b"text", "is cut short"),
    "huge integer": (b"\x8b" + struct.pack("<i", 2**31 - 1) + b"\1", "is cut short"),
    "minus integer": (b"\x8b" + struct.pack("<i", -1) + b"\1", "is damaged"),
    "minus text": (b"T" + struct.pack("<i", -1) + b"\1", "is damaged"),
    "huge line": (b"V" + b"a" * 10**6, "is cut short"),
    "huge decimal": (b"L" + b"9" * 4000 + b"L\n", "is not a dictionary of tensors"),
    "huge frame": (b"\x95" + struct.pack("<Q", 2**62) + b"}", "holds no arrays"),
    "place": (b"}p" + b"9" * 4000 + b"\n", "a memo index that is not a number"),
    "no place": (b"}g-1\n", "a memo index that is not a number"),
    "no memo": (b"h\7", r"asks at byte \d+ for a missing value"),
    "no memo in digits": (b"g7\n", "for a missing value"),
    "no mark": (b"t", "for a missing value"),
    "no mark to pop": (b"1", "for a missing value"),
    "nothing to pop": (b"0", "for a missing value"),
    "nothing to double": (b"2", "a value is missing"),
    "nothing to keep": (b"\x94", "a value is missing"),
    "names of numbers": (b"K\1K\2\x93", "has an invalid name of a function or class"),
    "name of a list": (b"]]\x93", "has an invalid name of a function or class"),
    "no name": (b"cos\n", "is cut short"),
    "no letters": (b"X\1\0\0\0\xff", "for a missing value"),
    "call of a number": (b"K\1)R", "calls something that is not a function"),
    "call with a list": (
        b"ccollections\nOrderedDict\n]R",
        "calls something that is not a function",
    ),
    "call with nothing": (REBUILD + b")R", "as no state_dict does"),
    "call with little": (REBUILD + b"K\1\x85R", "as no state_dict does"),
    "call of a call": (FROM_TYPE + b"(" + FROM_TYPE + b"N)NtR", "as no state_dict does"),
    "parameter": (b"ctorch._utils\n_rebuild_parameter\n)R", "as no state_dict does"),
    "parameter of a list": (b"ctorch._utils\n_rebuild_parameter\n]\x85R", "as no state_dict does"),
    "items of numbers": (b"ccollections\nOrderedDict\n]K\1a\x85R", "made of invalid items"),
    "odd items": (b"}(K\1u", "for a missing value"),
    "items for a list": (b"](K\1K\2u", "keys for something that is not a dictionary"),
    "twice": (b"}(K\1NK\1Nu", "has 1 twice"),
    "appended to a tuple": (b")K\1a", "appends to something that is not a list"),
    "added to a list": (b"](K\1\x90", "adds to something that is not a set"),
    "attributes of a list": (b"]Nb", "sets attributes of a value without attributes"),
    "attributes of a tensor": (A_TENSOR + b"Nb", "sets attributes of a value without attributes"),
    "identity": (b"K\1Q", "has an invalid reference to an array"),
    "module": (b"(" + text("module") + b"NNNNtQ", "has an invalid reference to an array"),
    "identity in text": (
        b"Pos.system\n",
        "has an array reference that is not PyTorch's: os.system",
    ),
    "part beyond": (storage(view=b"(NK\5K\2t"), "has an invalid reference to an array"),
    "extension": (b"\x82\1", "asks for the operation EXT1"),
    "object": (b"(cbuiltins\nset\no", "asks for the operation OBJ"),
    "new object": (b"cbuiltins\nset\n)}\x92", "asks for the operation NEWOBJ_EX"),
    "buffer": (b"\x97", "asks for the operation NEXT_BUFFER"),
    "no operation": (b"\xff", "asks for the operation"),
    "instance": (b"(ios\nsystem\n", r"asks for os\.system"),
}


def compressed(path, name, data, method):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, data)


def with_false_size(path, method, name, head, data):
    """An entry that declares a few bytes, and has all of the data; false in both places."""
    compressed(path, name, head + data, method)
    content, size = path.read_bytes(), struct.pack("<I", len(head) + len(data))
    path.write_bytes(content.replace(size, struct.pack("<I", len(head))))


def npy(text, data=b""):
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(text)) + text + data


def header(shape, descr="'<f4'"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()


def safetensors(text):
    return struct.pack("<Q", len(text)) + text


def groups(count):
    """Names of many parts, no two of which are alike: each makes dictionaries in dictionaries."""
    said = '"dtype":"F32","shape":[0],"data_offsets":[0,0]'
    names = (f"{index}." + "a." * 60 + "b" for index in range(count))
    return ("{" + ",".join(f'"{name}":{{{said}}}' for name in names) + "}").encode()


ZEROS = bytes(5 * 10**7)
NPZ = {
    "bzip2": (zipfile.ZIP_BZIP2, "compressed by method 12"),
    "lzma": (zipfile.ZIP_LZMA, "compressed by method 14"),
    "deflate": (zipfile.ZIP_DEFLATED, "has more bytes than it declares"),
}
NPY = {
    "dimensions": (npy(header("(" + "1," * 4000 + ")")), "has the shape"),
    "sizes": (npy(header("(" + "9" * 5000 + ",)")), "has the shape"),
    "product": (npy(header("(" + "4611686018427387904," * 64 + ")")), "larger than any memory"),
    "nested": (npy(b"(" * 9000), "a header that NumPy does not write"),
    "header": (npy(b" " * 10**6), "has a header of 1000000 bytes"),
    "fields": (npy(header("(1,)", "[('a', '<f4')]")), r"of dtype \[\('a', '<f4'\)\], which is no"),
    "subarray": (npy(header("(1,)", "'(9999,9999)f4'")), "which is not a number"),
    "objects": (npy(header("(1,)", "'|O'")), "has a pickle"),
    "twice": (npy(header("(1,), 'shape': (2,)")), "a header that NumPy does not write"),
}
SAFETENSORS = {
    "lists": (b'{"a":[' + b"[]," * 5 * 10**6, "has JSON of more than"),
    "objects": (b'{"a":[' + b"{}," * 10**6, "would take|is damaged"),
    "numbers": (b'{"a":[' + b"1," * 10**6, "would take|is damaged"),
    "nested": (b'{"a":' + b"[" * 10**5, "would take|nested too deeply"),
    "integer": (b'{"a":' + b"9" * 10**6 + b"}", "is damaged"),
    "metadata": (b'{"__metadata__":[]}', "the metadata in its header are not an object"),
    "wide text": (b'{"__metadata__":{"a":"' + "🙂".encode() + b"a" * 10**7 + b'"}', "would take"),
    "text": (b'{"__metadata__":"' + "🙂".encode() + b"a" * 10**6 + b'"}', "is damaged|would take"),
    "list": (b"{}[]", "is damaged"),
    "groups": (groups(1500), "has names of more than 65536 groups"),
    "name": (b'{"\\ud800\\n":{"dtype":"F9"}}', "is damaged"),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What is said of each file, and in how many seconds; all of them in one process."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, (program, _) in PROGRAMS.items():
        in_zip(folder / f"zip {name}.pt", program, **NUMBER)
        keys = ["0"] if A_STORAGE in program else []
        in_a_row(folder / f"row {name}.pt", program, keys, blocks=[NUMBER["k0"]])
    for size in (10**8, 3 * 10**8):
        path = folder / f"packed {size}.pt"
        compressed(path, "net/data.pkl", b"N" * size, zipfile.ZIP_DEFLATED)
    for name, (method, _) in NPZ.items():
        head = npy(header("(2,)"), b"12345678")
        with_false_size(folder / f"false {name}.npz", method, "a.npy", head, ZEROS)
    for name, (data, _) in NPY.items():
        compressed(folder / f"npy {name}.npz", "a.npy", data, zipfile.ZIP_DEFLATED)
    for name, (data, _) in SAFETENSORS.items():
        (folder / f"{name}.safetensors").write_bytes(safetensors(data))
    paths = sorted(map(str, folder.iterdir()))
    command = [sys.executable, "-c", READER, str(MAX_BYTES), *paths]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, (ended.stdout[-300:], ended.stderr[-300:])
    said = {}
    for name, seconds, words in map(json.loads, ended.stdout.splitlines()):
        said.setdefault(name, []).append((seconds, words))
    assert len(said) == len(paths)
    return said


EXPECTED = (
    {f"{kind} {name}.pt": words for name, (_, words) in PROGRAMS.items() for kind in ("zip", "row")}
    | {f"false {name}.npz": words for name, (_, words) in NPZ.items()}
    | {f"npy {name}.npz": words for name, (_, words) in NPY.items()}
    | {f"{name}.safetensors": words for name, (_, words) in SAFETENSORS.items()}
    | {"packed 100000000.pt": MEMORY, "packed 300000000.pt": "its data.pkl has more than"}
)


def test_the_hashes_are_one():
    assert len({hash(pair) for pair in strides_of_one_hash(20)}) == 1


def test_long_integers_take_memory():
    program = b"(" + integer(2**2000) * 1000 + b"l."
    assert len(unpickled(Bytes(iter([program])), 10**6)) == 1000
    with pytest.raises(UnfitError, match=MEMORY):
        unpickled(Bytes(iter([program])), 2 * 10**5)


def test_copies_of_tensors_take_memory_beside_their_storage(tmp_path):
    kept = tensor(0, (10**6,), (0,), storage(size=10**6))
    program = (
        b"\x80\2"
        + dictionary(("a", kept), ("b", tensor(9, (1,), (1,), storage(size=10**6))))
        + b"."
    )
    with zipfile.ZipFile(tmp_path / "net.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", program)
        archive.writestr("net/data/0", bytes(4 * 10**6))
    with pytest.raises(ValueError, match=r"would take 799.* bytes, and max_bytes is 5000000"):
        transfer.from_torch(tmp_path / "net.pt", max_bytes=5 * 10**6)
    assert transfer.from_torch(tmp_path / "net.pt", max_bytes=8 * 10**6)["a"].shape == (10**6,)


@pytest.mark.skipif(sys.platform != "linux", reason="has no such limits")
@pytest.mark.parametrize("name", EXPECTED)
def test_hostile_files_are_refused(outcomes, name):
    for seconds, words in outcomes[name]:
        assert words.startswith("from_") or EXPECTED[name].endswith("read"), words
        assert words.isprintable()
        assert len(words) < 800
        assert not re.search("(Memory|Index|Key|Type|Attribute|Recursion|Value)Error", words)
        assert seconds < 1, (seconds, words)
    assert any(re.search(EXPECTED[name], words) for _, words in outcomes[name]), outcomes[name]
