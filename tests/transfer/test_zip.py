"""Zip archives whose directory does not say what is in them."""

import io
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest

from jaxopt_cards import transfer
from jaxopt_cards.transfer.files import zip as _zip
from jaxopt_cards.transfer.files.foreign import UnfitError

LOCAL, CENTRAL, END = "<IHHHHHIIIHH", "<IHHHHHHIIIHHHHHII", "<IHHHHIIH"


def npy(values=(1.0, 2.0)):
    stream = io.BytesIO()
    np.save(stream, np.asarray(values, "f4"))
    return stream.getvalue()


def entry(name=b"a.npy", data=None, method=0, packed=None, size=None, crc=None, flags=0, local=()):
    """An entry with its header, and what the directory says; `local`: what only the header says."""
    data = npy() if data is None else data
    if packed is None:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(data) + packer.flush() if method == 8 else data
    size = len(data) if size is None else size
    crc = zlib.crc32(data) if crc is None else crc
    said = {"name": name, "method": method, "crc": crc, "packed": len(packed), "size": size} | dict(
        local
    )
    numbers = (said["crc"], said["packed"], said["size"], len(said["name"]), 0)
    head = struct.pack(LOCAL, 0x04034B50, 20, flags, said["method"], 0, 33, *numbers) + said["name"]
    return head + packed, (name, method, crc, len(packed), size, flags)


def archive(*entries, starts=None, count=None, extra=b"", before_end=b"", **end):
    """An archive of entries, which may start where its directory does not say."""
    body, directory = b"", b""
    for index, (data, (name, method, crc, packed, size, flags)) in enumerate(entries):
        start = len(body) if starts is None else starts[index]
        numbers = (crc, packed, size, len(name), len(extra), 0, 0, 0, 0, start)
        head = struct.pack(CENTRAL, 0x02014B50, 20, 20, flags, method, 0, 33, *numbers)
        directory += head + name + extra
        body += data
    count = len(entries) if count is None else count
    said = {"length": len(directory), "place": len(body), "comment": 0, "disk": 0} | end
    tail = struct.pack(
        END,
        0x06054B50,
        said["disk"],
        said["disk"],
        count,
        count,
        said["length"],
        said["place"],
        said["comment"],
    )
    return body + directory + before_end + tail


def read(tmp_path, content, max_bytes=10**6):
    (tmp_path / "net.npz").write_bytes(content)
    return transfer.from_numpy(tmp_path / "net.npz", max_bytes=max_bytes)


@pytest.mark.parametrize("method", [0, 8])
def test_archives_of_this_kind_are_read(tmp_path, method):
    made = archive(entry(method=method), entry(b"b.npy", method=method))
    assert sorted(read(tmp_path, made)) == ["a", "b"]
    assert sorted(zipfile.ZipFile(io.BytesIO(made)).namelist()) == ["a.npy", "b.npy"]


BOMB = zlib.compressobj(9, zlib.DEFLATED, -15)
BOMB = BOMB.compress(npy() + bytes(10**7)) + BOMB.flush()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(entry(method=12)), "compressed by method 12: only stored and deflated ones"),
        (archive(entry(method=14)), "compressed by method 14: only stored and deflated ones"),
        (archive(entry(method=8, packed=BOMB)), "has more bytes than it declares"),
        (archive(entry(method=8, packed=b"\xff" * 9)), "'a.npy' cannot be unpacked"),
        (archive(entry(method=8, packed=b"")), "'a.npy' cannot be unpacked"),
        (archive(entry(method=8, packed=BOMB[:99])), "cannot be unpacked|has more bytes"),
        (archive(entry(method=8, packed=BOMB + b"more")), "has more bytes than it declares"),
        (archive(entry(crc=1)), "'a.npy' has other bytes than it declares"),
        (archive(entry(method=8, crc=1)), "'a.npy' has other bytes than it declares"),
        (archive(entry(size=10**9)), "'a.npy' has other bytes than it declares"),
        (archive(entry(method=8, size=10**9)), "would take 1000000000 bytes, and max_bytes is"),
        (archive(entry(method=8, size=999)), "whose header says"),
        (archive(entry(), entry(b"b.npy"), starts=[0, 0]), "'[ab].npy' runs into the next"),
        (archive(entry(), entry(b"b.npy"), starts=[0, 20]), "'a.npy' runs into the next"),
        (archive(entry(), starts=[30]), "runs into the next|not where it should be"),
        (archive(entry(), starts=[2**31]), "'a.npy' runs into the next"),
        (archive(entry(local={"name": b"b.npy"})), "is another than the directory's"),
        (archive(entry(local={"method": 8})), "is another than the directory's"),
        (archive(entry(local={"crc": 7})), "is another than the directory's"),
        (archive(entry(local={"size": 7})), "is another than the directory's"),
        (archive(entry(local={"packed": 7})), "is another than the directory's"),
        (archive(entry(flags=1)), "which is encrypted or leads elsewhere"),
        (archive(entry(flags=0x2000)), "which is encrypted or leads elsewhere"),
        (archive(entry(b"../a.npy")), "which is encrypted or leads elsewhere"),
        (archive(entry(b"a\x1b.npy")), "which is encrypted or leads elsewhere"),
        (archive(entry(b"\xff.npy", flags=0x800)), "is damaged"),
        (archive(entry(), entry()), "has two entries of one name, 'a.npy'"),
        (archive(entry(), count=2), "the directory of the zip archive ends early"),
        (archive(entry(), count=0), "the directory of the zip archive has another length"),
        (archive(entry(), length=46), "is not where it says"),
        (archive(entry(), place=0), "is not where it says"),
        (archive(entry(), disk=1), "is not where it says"),
        (archive(entry(), comment=5), "is not where it says"),
        (archive(entry(), before_end=b"1234"), "is not where it says"),
        (archive(entry()) + b"more", "is not where it says"),
        (b"more" + archive(entry()), "is not a zip archive"),
        (archive(entry(size=2**32 - 1)), "the directory of the zip archive lacks a size"),
        (b"PK\3\4" + bytes(99), "is cut short"),
    ],
)
def test_archives_that_lie(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"from_numpy: .*net\.npz .*({message})"):
        read(tmp_path, content)


def test_sizes_beyond_32_bits_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    with zipfile.ZipFile(tmp_path / "net.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("a", "b"):
            file.writestr(f"{name}.npy", npy())
    content = (tmp_path / "net.npz").read_bytes()
    assert b"PK\6\6" in content
    assert list(transfer.from_numpy(tmp_path / "net.npz")) == ["a", "b"]
    for place in range(content.index(b"PK\6\6"), len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 129
        try:
            assert list(read(tmp_path, damaged)) == ["a", "b"]
        except ValueError as error:
            assert "from_numpy" in str(error)  # noqa: PT017 (most are refused, not all)


def test_streams_whose_sizes_stand_behind_the_data(tmp_path):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

        def tell(self):
            raise OSError

        seek = tell

    with zipfile.ZipFile(pipe := Pipe(), "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.npy", npy())
    np.testing.assert_array_equal(read(tmp_path, pipe.getvalue())["a"], [1, 2])


def test_too_many_entries_and_too_long_names(tmp_path, monkeypatch):
    monkeypatch.setattr(_zip, "ENTRIES", 2)
    made = archive(*[entry(f"{index}.npy".encode()) for index in range(3)])
    with pytest.raises(ValueError, match="has 3 entries, more than 2"):
        read(tmp_path, made)
    monkeypatch.setattr(_zip, "ENTRIES", 3)
    assert len(read(tmp_path, made)) == 3
    monkeypatch.setattr(_zip, "LETTERS", 14)
    with pytest.raises(ValueError, match="has names of more than 14 letters"):
        read(tmp_path, made)


@pytest.mark.parametrize("method", [0, 8])
@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 1000])
def test_entries_come_in_pieces(monkeypatch, method, count):
    monkeypatch.setattr(_zip, "PIECE", 100)
    data = np.random.default_rng(0).bytes(count // 2) + bytes(count - count // 2)
    content = archive(entry(b"a", data, method), entry(b"b", data[::-1], method))
    found = _zip.zip_archive(io.BytesIO(content), 10**6)
    assert found.read("a") == data
    assert all(len(piece) <= 100 for piece in found.pieces("b"))
    found.copy("b", target := io.BytesIO())
    assert target.getvalue() == data[::-1]


def test_no_more_is_unpacked_than_is_declared():
    """Nor is it kept: ten million bytes behind the declared ones are never made."""
    found = _zip.zip_archive(io.BytesIO(archive(entry(method=8, packed=BOMB))), 10**6)
    made = 0
    with pytest.raises(UnfitError, match="has more bytes than it declares"):  # noqa: PT012
        for piece in found.pieces("a.npy"):
            made += len(piece)
    assert made == 0


@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
@pytest.mark.parametrize("convention", ["flax", "torch"])
def test_numbers_are_in_memory_once(tmp_path, dtype, convention):
    numbers = np.arange(2**22, dtype=dtype).reshape(2**11, 2**11)
    head = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {numbers.shape}}}\n"  # odd
    data = b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + numbers.tobytes()
    with zipfile.ZipFile(tmp_path / "net.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("weight.npy", data)
    tracemalloc.start()
    found = transfer.from_numpy(tmp_path / "net.npz", convention=convention)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (array,) = found.values()
    np.testing.assert_array_equal(array.T if convention == "torch" else array, numbers)
    assert array.dtype == np.float32
    assert peak < numbers.nbytes + 8 * _zip.PIECE  # pieces on the way; a copy would be 16
