"""Pickles as PyTorch writes them, and as it never would, and the files around them."""

import pickle
import struct
import zipfile

import numpy as np

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
HOOKS = b"\x89ccollections\nOrderedDict\n)R"


def text(letters):
    data = letters.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(number):
    data = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def storage(kind="Float", key="0", size=6, view=b""):
    parts = text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu")
    return b"(" + parts + integer(size) + view + b"tQ"


def tensor(offset=0, shape=(6,), strides=(1,), of=None):
    sizes = b"".join(b"(" + b"".join(map(integer, axis)) + b"t" for axis in (shape, strides))
    return REBUILD + b"(" + (of or storage()) + integer(offset) + sizes + HOOKS + b"tR"


def dictionary(*pairs):
    return b"}(" + b"".join(text(key) + value for key, value in pairs) + b"u"


def in_zip(path, program, **storages):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02" + program + b".")
        for key, data in (storages or {"k0": np.arange(6, dtype="f4")}).items():
            archive.writestr(f"net/data/{key[1:]}", np.asarray(data).tobytes())
    return path


def in_a_row(path, program, keys=("0",), blocks=None, magic=MAGIC, version=VERSION, little=True):
    """A file as PyTorch before 1.6 wrote it."""
    about = {"protocol_version": version, "little_endian": little, "type_sizes": {"int": 4}}
    head = b"".join(pickle.dumps(value, protocol=2) for value in (magic, version, about))
    blocks = [np.arange(6, dtype="f4")] if blocks is None else blocks
    numbers = b"".join(struct.pack("<q", len(block)) + block.tobytes() for block in blocks)
    keys = pickle.dumps(list(keys), protocol=2)
    path.write_bytes(head + b"\x80\x02" + program + b"." + keys + numbers)
    return path
