"""MNIST from its four IDX files, which are read from disk or downloaded, and verified."""

import gzip
import hashlib
import http.client
import os
import queue
import tempfile
import threading
import time
import urllib.request
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxopt_cards.core.checks import escaped
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.data.examples import Examples, Splits

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)

_SECONDS = 600.0  # for a whole file, which has at most 10 MB
_SILENCE = 30.0  # seconds without an answer from the server


class _IdxFile(NamedTuple):
    name: str
    md5: str  # of the uncompressed contents
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes of the uncompressed file: a magic number, the sizes, and one byte per element."""
        return 4 + 4 * len(self.shape) + int(np.prod(self.shape))


_TRAIN_X = _IdxFile("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb", (60_000, 28, 28))
_TRAIN_Y = _IdxFile("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624", (60_000,))
_TEST_X = _IdxFile("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea", (10_000, 28, 28))
_TEST_Y = _IdxFile("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637", (10_000,))


@declare
def mnist(directory: str | os.PathLike | None = None, *, download: bool = True) -> Splits:
    r"""Loads MNIST: 70,000 handwritten digits of 28×28 pixels.

    Reads the four IDX files, gzip-compressed or not, from `directory`, or else from the folder in
    the environment variable `JAXOPT_CARDS_DATA`, or else from the cache folder
    `~/.cache/jaxopt_cards/mnist` (below `XDG_CACHE_HOME` if set). Files missing in the cache folder
    are downloaded from two public mirrors. The MD5 sum of each file is checked. The split is that
    of TensorFlow's tutorials: the first 5,000 training images are for validation, the other 55,000
    for training.

    Equation:
        .. math:: x = \text{pixel} / 255

    Args:
        directory: folder with the four files. If given, nothing is downloaded.
        download: whether to download files missing in the cache folder.

    Returns:
        `Splits` of `Examples`: `x` float32 of shape (n, 784) in [0, 1], `y` int32 from 0 to 9.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is truncated or has other contents.
        ConnectionError: no mirror provided a valid file.

    References:
        Yann LeCun, Léon Bottou, Yoshua Bengio, Patrick Haffner (1998), Gradient-based learning
        applied to document recognition. Géron (2017), chapter 11, exercises 8 to 10.

    Use when: reproducing Géron's chapter 11.
    Avoid when: you have neither the files nor internet; `digits` comes with the package.

    Example:
        >>> from jaxopt_cards import data
        >>> try:
        ...     data.mnist("no/such/folder")
        ... except FileNotFoundError as error:
        ...     print(error)
        mnist: no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in no/such/folder
    """
    named = directory or os.environ.get("JAXOPT_CARDS_DATA")
    folder = Path(named) if named else _cache_folder()
    may_download = download and not named
    train_x, train_y, test_x, test_y = (
        _load(file, folder, may_download) for file in (_TRAIN_X, _TRAIN_Y, _TEST_X, _TEST_Y)
    )
    return Splits(
        train=_examples(train_x[5000:], train_y[5000:]),
        valid=_examples(train_x[:5000], train_y[:5000]),
        test=_examples(test_x, test_y),
    )


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxopt_cards" / "mnist"


def _examples(images: np.ndarray, labels: np.ndarray) -> Examples:
    x = images.reshape(len(images), -1).astype(np.float32) / np.float32(255)
    return Examples(x, labels.astype(np.int32))


def _load(file: _IdxFile, folder: Path, may_download: bool) -> np.ndarray:
    for path in (folder / file.name, folder / f"{file.name}.gz"):
        if path.is_file():
            break
    else:
        if not may_download:
            raise FileNotFoundError(f"mnist: no {file.name} or {file.name}.gz in {escaped(folder)}")
        path = _download(file, folder)
    header = file.size - int(np.prod(file.shape))
    return np.frombuffer(_verified(file, path), np.uint8, offset=header).reshape(file.shape)


def _verified(file: _IdxFile, path: Path) -> bytes:
    """The uncompressed contents of `path`; raises unless they are exactly those of `file`."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            contents = stream.read(file.size + 1)  # a limit, in case the file unpacks to more
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        found = f"{escaped(path)} is damaged ({escaped(error)}); delete it and try again"
        raise NamedError(found) from None
    if (
        len(contents) != file.size
        or hashlib.md5(contents, usedforsecurity=False).hexdigest() != file.md5
    ):
        at_least = "more than " if len(contents) > file.size else ""
        got = f"{at_least}{min(len(contents), file.size):,} bytes"
        raise NamedError(
            f"{escaped(path)} is not MNIST's {file.name}: expected {file.size:,} bytes with MD5 "
            f"sum {file.md5}, got {got} with a different sum; delete it and try again",
        )
    return contents


def _fetched(url: str, most: int) -> bytes:
    """The contents of a URL; `OSError` if they do not arrive in time or are longer than `most`.

    Waits in a thread, because `urlopen` has no time limit for the name lookup and the headers.
    """
    answer: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    last = time.monotonic() + _SECONDS

    def fetch() -> None:
        try:
            answer.put(_received(url, most, last))
        except Exception as error:  # raised again by the thread that asked
            answer.put(error)

    threading.Thread(target=fetch, name="mnist", daemon=True).start()
    try:
        contents = answer.get(timeout=_SECONDS + 1)
    except queue.Empty:
        raise _too_slow() from None
    try:
        if isinstance(contents, Exception):
            raise contents
        return contents
    finally:
        del contents  # breaks the cycle of an error, which holds a connection, and its traceback


def _received(url: str, most: int, last: float) -> bytes:
    contents = bytearray()
    with urllib.request.urlopen(url, timeout=min(_SILENCE, _SECONDS)) as response:
        while piece := response.read1(2**16):
            contents += piece
            if len(contents) > most:
                raise OSError(f"it is longer than {most:,} bytes")
            if time.monotonic() > last:
                raise _too_slow()
    return bytes(contents)


def _too_slow() -> TimeoutError:
    return TimeoutError(f"it did not arrive within {_SECONDS:g} s")


def _download(file: _IdxFile, folder: Path) -> Path:
    """Downloads a file under a temporary name, verifies it, and then renames it."""
    folder.mkdir(parents=True, exist_ok=True)
    failures = []
    for mirror in MIRRORS:
        url = f"{mirror}{file.name}.gz"
        with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as scratch:
            part = Path(scratch) / f"{file.name}.gz"
            try:
                part.write_bytes(_fetched(url, most=2 * file.size + 1024))
                _verified(file, part)
            except (OSError, http.client.HTTPException, ValueError) as error:
                failures.append(escaped(f"{url}: {error}"))
                continue
            return part.replace(folder / part.name)
    raise ConnectionError(
        f"mnist: could not download {file.name}; put the four IDX files into a folder and set "
        f"JAXOPT_CARDS_DATA to its path. Tried:\n  " + "\n  ".join(failures)
    )
