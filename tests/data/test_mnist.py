"""The MNIST loader: found in three places, verified always, downloaded whole or not at all."""

import contextlib
import gzip
import hashlib
import http.server
import os
import threading
import time
from functools import partial

import numpy as np
import pytest

from jaxopt_cards import data
from jaxopt_cards.data import mnist_files as _mnist

FILES = ("_TRAIN_X", "_TRAIN_Y", "_TEST_X", "_TEST_Y")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A folder with four small IDX files, which the loader takes for MNIST's."""
    folder = tmp_path / "mnist"
    folder.mkdir()
    rng = np.random.default_rng(0)
    sizes = {"_TRAIN_X": (5003, 2, 2), "_TRAIN_Y": (5003,), "_TEST_X": (2, 2, 2), "_TEST_Y": (2,)}
    for attribute, shape in sizes.items():
        name = getattr(_mnist, attribute).name
        header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
        contents = header + rng.integers(0, 10, shape, np.uint8).tobytes()
        (folder / name).write_bytes(contents)
        known = _mnist._IdxFile(name, hashlib.md5(contents).hexdigest(), shape)
        monkeypatch.setattr(_mnist, attribute, known)
    monkeypatch.delenv("JAXOPT_CARDS_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(_mnist, "MIRRORS", ())
    return folder


def compress(folder):
    for path in list(folder.iterdir()):
        (folder / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()


@pytest.fixture
def mirror(small, monkeypatch):
    """A web server with the files compressed, named twice as a mirror: broken first, then good."""
    compress(small)
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(small))
    handler.func.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(_mnist, "MIRRORS", (f"{url}nowhere/", url))
        yield small
        server.shutdown()


def cache(tmp_path):
    return tmp_path / "cache" / "jaxopt_cards" / "mnist"


def test_splits_and_scales(small):
    train, valid, test = data.mnist(small)
    assert (train.x.shape, valid.x.shape, test.x.shape) == ((3, 4), (5000, 4), (2, 4))
    raw = np.frombuffer((small / _mnist._TRAIN_X.name).read_bytes()[16:], np.uint8).reshape(-1, 4)
    np.testing.assert_array_equal(valid.x, raw[:5000].astype("float32") / np.float32(255))
    np.testing.assert_array_equal(train.x, raw[5000:].astype("float32") / np.float32(255))
    assert (train.x.dtype, train.y.dtype) == (np.float32, np.int32)


def test_compressed_or_not_in_argument_environment_or_cache(small, monkeypatch, tmp_path):
    expected = data.mnist(small)
    compress(small)
    np.testing.assert_array_equal(data.mnist(small).train.x, expected.train.x)
    monkeypatch.setenv("JAXOPT_CARDS_DATA", str(small))
    np.testing.assert_array_equal(data.mnist().train.y, expected.train.y)
    monkeypatch.delenv("JAXOPT_CARDS_DATA")
    cache(tmp_path).parent.mkdir(parents=True)
    small.rename(cache(tmp_path))
    np.testing.assert_array_equal(data.mnist().test.x, expected.test.x)


def damage(path, how):
    contents = path.read_bytes()
    broken = {
        "truncated": contents[:-3],
        "longer": contents + b"\0",
        "one bit": contents[:-1] + bytes([contents[-1] ^ 1]),
        "empty": b"",
    }
    path.write_bytes(broken[how])


@pytest.mark.parametrize("how", ["truncated", "longer", "one bit", "empty"])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_file_is_named_and_never_used(small, how, compressed):
    path = small / _mnist._TEST_X.name
    damage(path, how)
    if compressed:
        compress(small)
    with pytest.raises(
        ValueError, match=rf"t10k-images.* is not MNIST's .* with MD5 sum {_mnist._TEST_X.md5}"
    ):
        data.mnist(small)


@pytest.mark.parametrize("how", ["truncated", "one bit", "empty"])
def test_a_damaged_archive_is_named_and_never_used(small, how):
    compress(small)
    damage(small / f"{_mnist._TEST_X.name}.gz", how)
    with pytest.raises(ValueError, match=r"mnist: .*t10k-images-idx3-ubyte.gz is"):
        data.mnist(small)


def test_an_archive_that_unpacks_to_gigabytes_is_read_no_further_than_needed(small):
    bomb = small / f"{_mnist._TEST_X.name}.gz"
    with gzip.open(bomb, "wb", compresslevel=1) as stream:
        for _ in range(64):
            stream.write(bytes(1 << 20))
    (small / _mnist._TEST_X.name).unlink()
    with pytest.raises(ValueError, match="got more than 24 bytes"):
        data.mnist(small)


def test_a_missing_file_is_named(small):
    (small / _mnist._TRAIN_Y.name).unlink()
    with pytest.raises(FileNotFoundError, match=r"no train-labels-idx1-ubyte or .*\.gz in "):
        data.mnist(small)
    with pytest.raises(FileNotFoundError, match="no train-images"):
        data.mnist(download=False)


def test_downloads_from_the_second_mirror_where_the_first_fails(mirror, tmp_path):
    downloaded = data.mnist()
    np.testing.assert_array_equal(downloaded.train.x, data.mnist(mirror).train.x)
    assert sorted(os.listdir(cache(tmp_path))) == sorted(os.listdir(mirror))
    np.testing.assert_array_equal(data.mnist(download=False).train.x, downloaded.train.x)


def test_a_half_download_leaves_nothing_behind(mirror, tmp_path):
    damage(mirror / f"{_mnist._TEST_Y.name}.gz", "truncated")
    with pytest.raises(ConnectionError, match=r"could not download t10k-labels(.|\n)*is damaged"):
        data.mnist()
    assert not [name for name in os.listdir(cache(tmp_path)) if "t10k-labels" in name]
    assert not [name for name in os.listdir(cache(tmp_path)) if name.startswith(".")]


@pytest.mark.skipif("JAXOPT_CARDS_DATA" not in os.environ, reason="MNIST is not on this machine")
class Slow(http.server.BaseHTTPRequestHandler):
    """A server that never ends: in its headers, in the contents, or in how much it sends."""

    how = "contents"

    def do_GET(self):
        with contextlib.suppress(OSError):
            if self.how != "headers":
                self.send_response(200)
                self.end_headers()
            piece = b"x" * (2**20 if self.how == "length" else 1)
            while not self.server.ended.wait(0.0 if self.how == "length" else 0.05):
                self.wfile.write(piece)

    def log_message(self, *args):
        pass


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("contents", "it did not arrive within 0.5 s"),
        ("headers", "it did not arrive within 0.5 s"),
        ("length", r"it is longer than [0-9,]+ bytes"),
    ],
)
def test_a_server_that_never_ends_is_left(small, tmp_path, monkeypatch, how, message):
    monkeypatch.setattr(_mnist, "_SECONDS", 0.5)
    monkeypatch.setattr(Slow, "how", how)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.ended, server.daemon_threads = threading.Event(), False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(_mnist, "MIRRORS", (url,))
        start = time.monotonic()
        with pytest.raises(ConnectionError, match=message):
            data.mnist()
        assert time.monotonic() - start < 10
        server.ended.set()
        server.shutdown()
    for thread in threading.enumerate():  # what was left waits until the server ends
        if thread.name == "mnist":
            thread.join(timeout=60)
    assert list(cache(tmp_path).iterdir()) == []


def test_the_real_mnist():
    splits = data.mnist()
    assert [len(split.y) for split in splits] == [55_000, 5_000, 10_000]
    few = data.subset(splits.train, range(5))
    assert len(few.y) == 28_038
    assert splits.train.x.max() == 1.0
