"""Files as a stranger might send them: small, and made to take memory or time, or to read others'.

Each function writes one file; `FILES` says which function of ours would read it.
"""

import bz2
import io
import json
import lzma
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tests.transfer.torch_programs import HOOKS, REBUILD, integer, storage, text

_ONE = b"K\x01"


def _tensor(shape: bytes, strides: bytes, size: int = 64, offset: int = 0) -> bytes:
    inside = storage("Byte", size=size) + integer(offset) + shape + strides + HOOKS
    return REBUILD + b"(" + inside + b"tR"


def _torch(file: Path, program: bytes) -> None:
    """A file of PyTorch whose pickle is this."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02" + program + b".")
        archive.writestr("net/data/0", bytes(64))


def _of_weight(tensor: bytes) -> bytes:
    return b"}" + text("w") + tensor + b"s"


def shape_that_grows(file: Path) -> None:
    """The lists of shape and strides are kept, and appended to once the tensor is there."""
    later = b"h\x01" + integer(1000) + b"a0h\x02" + integer(-(2**40)) + b"a0"
    _torch(file, _of_weight(_tensor(b"]q\x01", b"]q\x02")) + later)


def view_outside(file: Path) -> None:
    """Strides that lead before the storage."""
    _torch(file, _of_weight(_tensor(_ONE * 2 + b"\x86", integer(-64) + _ONE + b"\x86", offset=63)))


def offset_outside(file: Path) -> None:
    """An offset near the end of what 64 bits count."""
    shape = integer(2) + b"\x85"
    _torch(file, _of_weight(_tensor(shape, _ONE + b"\x85", offset=2**63 - 2)))


def size_beyond(file: Path) -> None:
    """A storage of more bytes than the file has."""
    shape = integer(2**40) + b"\x85"
    _torch(file, _of_weight(_tensor(shape, b"K\x00\x85", size=2**40)))


def one_number_often(file: Path) -> None:
    """A view of one number, as large as memory."""
    shape = integer(2**28) * 2 + b"\x86"
    _torch(file, _of_weight(_tensor(shape, b"K\x00K\x00\x86")))


def many_dimensions(file: Path) -> None:
    """A shape of 100,000 dimensions that a thousand tensors share."""
    shape = b"(" + _ONE * 10**5 + b"tq\x05"
    tensors = b"".join(
        b"M" + struct.pack("<H", i) + _tensor(b"h\x05", b"h\x05") for i in range(999)
    )
    _torch(file, b"}" + text("x") + shape + b"s(" + tensors + b"u")


def long_numbers(file: Path) -> None:
    """A shape of a hundred thousand numbers of 2,000 bits."""
    number = b"\x8a\xff" + b"\xff" * 254 + b"\x7f" + b"q\x05"
    shape = b"(" + number + b"h\x05" * 10**5 + b"tq\x06"
    _torch(file, _of_weight(_tensor(shape, b"h\x06")))


def names_within_names(file: Path) -> None:
    """A long name over many short ones: together they have billions of letters."""
    inner = b"".join(b"M" + struct.pack("<H", i) + _tensor(b")", b")") for i in range(10**4))
    _torch(file, b"}" + text("n" * 10**5) + b"}(" + inner + b"us")


def lists_within_lists(file: Path) -> None:
    """Each list holds the one before it twice: as a tree it has 2^40 leaves."""
    doubled = b"".join(
        b"(h" + bytes([i]) + b"h" + bytes([i]) + b"lq" + bytes([i + 1]) for i in range(40)
    )
    _torch(file, b"]q\x00" + doubled + b"K\x01")


def itself(file: Path) -> None:
    """A dictionary that is in itself."""
    _torch(file, b"}q\x00" + text("again") + b"h\x00s")


def deep(file: Path) -> None:
    """A dictionary in a dictionary, and so on."""
    _torch(file, (b"}" + text("a")) * 10**5 + b"K\x01" + b"s" * 10**5)


def a_command(file: Path) -> None:
    """A call of what no state_dict needs."""
    _torch(file, b"cos\nsystem\n(" + text("true") + b"tR")


def _zip_of(file: Path, name: str, method: int, packed: Iterable[bytes], said: bytes) -> None:
    """An archive of one entry whose header says that it unpacks to `said`."""
    body, written = b"".join(packed), name.encode()
    sizes = (zlib.crc32(said), len(body), len(said), len(written))
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 46, 0, method, 0, 33, *sizes, 0)
    head = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 46, 46, 0, method, 0, 33, *sizes, *[0] * 6)
    start = len(local + written + body)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, len(head + written), start, 0)
    file.write_bytes(local + written + body + head + written + end)


def _npy() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(8, "float32"))
    return stream.getvalue()


def _false_size(method: int, packer: Callable[[], object], name: str = "w.npy") -> Callable:
    def write(file: Path) -> None:
        pack, block = packer(), bytes(2**22)
        pieces = [pack.compress(_npy()), *(pack.compress(block) for _ in range(64)), pack.flush()]
        head = b"" if method != 14 else b"\x09\x04\x05\x00" + b"\x5d" + struct.pack("<I", 2**23)
        _zip_of(file, name, method, [head, *pieces], _npy())

    return write


def _lzma() -> object:
    return lzma.LZMACompressor(
        lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 2**23}]
    )


def _deflate() -> object:
    return zlib.compressobj(9, zlib.DEFLATED, -15)


def zeros(file: Path) -> None:
    """An array of 256 MB in 256 KB, as its header says."""
    np.savez_compressed(file, w=np.zeros(2**26, "float32"))


def many_entries(file: Path) -> None:
    """Fifty thousand arrays of nothing."""
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(50_000):
            archive.writestr(f"{number}", b"")


def long_header(file: Path) -> None:
    """A header of 30 MB, all of it small values."""
    header = b'{"a":[' + b"{}," * 10**7 + b"0]}"
    file.write_bytes(len(header).to_bytes(8, "little") + header)


def header_beyond(file: Path) -> None:
    """A header longer than memory, in a file of a few bytes."""
    file.write_bytes((2**62).to_bytes(8, "little") + b'{"a":1}')


def _keras(file: Path, config: bytes) -> None:
    import h5py

    with h5py.File(stream := io.BytesIO(), "w") as weights:
        weights["layers/dense/vars/0"] = np.ones((3, 2), "float32")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", stream.getvalue())


def names_in_a_configuration(file: Path) -> None:
    """Long names of models in models, above many layers."""
    layers = [{"class_name": "Dense", "config": {"name": f"{i}"}} for i in range(5000)]
    for depth in range(40):
        inner = {"name": f"{depth}" + "n" * 5000, "layers": layers}
        layers = [{"class_name": "Functional", "config": inner}]
    _keras(file, json.dumps(layers[0]).encode())


def deep_configuration(file: Path) -> None:
    """A configuration in a configuration, and so on."""
    _keras(file, b'{"config":' * 10**6)


def sparse_hdf5(file: Path) -> None:
    """An array of a terabyte of which no piece was written."""
    import h5py

    with h5py.File(file, "w") as weights:
        group = weights.create_group("layers/dense/vars")
        group.create_dataset("0", (2**20, 2**18), "float32", chunks=(2**10, 2**10))


def hdf5_filter(file: Path) -> None:
    """A piece packed by a filter that only a library from elsewhere has."""
    import h5py

    with h5py.File(file, "w") as weights:
        group = weights.create_group("layers/dense/vars")
        about = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        about.set_chunk((2, 2))
        about.set_filter(32_999, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((2, 2))
        h5py.h5d.create(group.id, b"0", h5py.h5t.NATIVE_FLOAT, space, about)


FILES: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    **{
        function.__name__: ("from_torch", "net.pt", function)
        for function in (
            *(shape_that_grows, view_outside, offset_outside, size_beyond, one_number_often),
            *(many_dimensions, long_numbers, names_within_names, lists_within_lists, itself),
            *(deep, a_command),
        )
    },
    "bzip2_with_a_false_size": ("from_numpy", "net.npz", _false_size(12, bz2.BZ2Compressor)),
    "lzma_with_a_false_size": ("from_numpy", "net.npz", _false_size(14, _lzma)),
    "deflate_with_a_false_size": ("from_numpy", "net.npz", _false_size(8, _deflate)),
    "torch_with_a_false_size": (
        "from_torch",
        "net.pt",
        _false_size(12, bz2.BZ2Compressor, "a/data.pkl"),
    ),
    "keras_with_a_false_size": ("from_keras", "net.keras", _false_size(8, _deflate, "config.json")),
    "zeros": ("from_numpy", "net.npz", zeros),
    "many_entries": ("from_numpy", "net.npz", many_entries),
    "long_header": ("from_safetensors", "net.safetensors", long_header),
    "header_beyond": ("from_safetensors", "net.safetensors", header_beyond),
    "names_in_a_configuration": ("from_keras", "net.keras", names_in_a_configuration),
    "deep_configuration": ("from_keras", "net.keras", deep_configuration),
    "sparse_hdf5": ("from_keras", "net.weights.h5", sparse_hdf5),
    "hdf5_filter": ("from_keras", "net.weights.h5", hdf5_filter),
}
