"""Features on disk: found again by what they were made of, and proven whole before use."""

import contextlib
import hashlib
import io
import json
import os
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from jaxopt_cards.core.checks import HyperparameterError, escaped
from jaxopt_cards.core.errors import NamedOSError
from jaxopt_cards.storage.arrays import if_full, is_key
from jaxopt_cards.storage.environment import environment
from jaxopt_cards.storage.locks import locked

ROWS_AT_A_TIME = 4096
_MAX_MANIFEST = 2**16  # bytes


def fingerprint(run: Any, arguments: tuple[Any, Any], x: np.ndarray) -> str:
    """SHA-256 of all that features depend on: the program, the arrays it reads, and the inputs."""
    digest = hashlib.sha256()
    # Another compiler, processor or number of threads rounds otherwise: such features would not be
    # those of a run in memory.
    about = environment({})
    for library in ("flax", "optax", "jaxopt_cards"):  # whose work is in the program's text
        del about[library]
    digest.update(json.dumps(about).encode())
    # The program's text has all settings of the layers, and of JAX, that make a difference.
    digest.update(run.lower(*arguments).as_text().encode())
    for array in _arrays_read(run, arguments):
        _add(digest, np.asarray(jax.random.key_data(array) if is_key(array) else array))
    _add(digest, x)
    return digest.hexdigest()


def on_disk(
    directory: str | os.PathLike,
    key: str,
    batches: Iterable[np.ndarray],
    shape: tuple[int, ...],
    dtype: Any,
) -> np.ndarray:
    """The features of that key, mapped from their file; written first if they are not there."""
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise HyperparameterError("directory", "be a folder", str(folder))
    file = folder / f"features-{key}.npy"
    # NumPy's format does not know bfloat16: its bits are stored as whole numbers.
    stored = np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype
    features = _found(file, shape, stored)
    if features is None:
        _write(file, batches, shape, stored)
        features = _found(file, shape, stored)
    if features is None:
        raise NamedOSError(f"{escaped(file)} is not what was just written to it")
    return features.view(dtype)


def _arrays_read(run: Any, arguments: tuple[Any, Any]) -> list[Any]:
    """Those arrays of the model that reach the program; the layers above do not."""
    program = jax.make_jaxpr(run.__wrapped__)(*arguments)
    read = {id(variable) for equation in program.jaxpr.eqns for variable in equation.invars}
    read |= {id(variable) for variable in program.jaxpr.outvars}
    leaves = jax.tree.leaves(arguments[0])
    inputs = program.jaxpr.invars[: len(leaves)]
    kept = [leaf for leaf, name in zip(leaves, inputs, strict=True) if id(name) in read]
    return kept + program.consts


def _add(digest: Any, array: np.ndarray) -> None:
    """Adds an array, a few rows at a time: it may be mapped from a file larger than memory."""
    digest.update(f"{array.dtype}{array.shape}".encode())
    rows = array.reshape(1) if array.ndim == 0 else array
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        digest.update(_bytes(rows[start : start + ROWS_AT_A_TIME]))


def _bytes(array: np.ndarray) -> memoryview:
    # As bytes, without a copy: bfloat16 has no buffer of its own.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _header(shape: tuple[int, ...], dtype: Any) -> bytes:
    """The first bytes of the `.npy` file of such an array."""
    stream = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, about)
    return stream.getvalue()


def _manifest(file: Path) -> Path:
    return file.with_suffix(".json")


def _about(file: Path, shape: tuple[int, ...], dtype: Any, crc: int) -> dict[str, Any]:
    """What the manifest says of a file."""
    about = {"format": 1, "file": file.name, "shape": list(shape), "dtype": str(dtype)}
    return about | {"crc32": crc}


def _found(file: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
    """The features in a file, if they are those that were written to it to the last bit."""
    try:
        # Another process may replace both meanwhile; what is open stays what it is.
        with locked(file.parent, shared=True), _manifest(file).open("rb") as manifest:
            features = _mapped(file, shape, dtype)
            about = json.loads(manifest.read(_MAX_MANIFEST))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    if features is None:
        return None
    crc = 0
    for start in range(0, len(features), ROWS_AT_A_TIME):
        crc = zlib.crc32(_bytes(features[start : start + ROWS_AT_A_TIME]), crc)
    return features if about == _about(file, shape, dtype, crc) else None


def _mapped(file: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
    """The array in a file of just this shape and dtype."""
    header = _header(shape, dtype)
    size = len(header) + int(np.prod(shape)) * dtype.itemsize
    with file.open("rb") as stream:
        # The header is compared, not read: nothing in the file is believed.
        if stream.read(len(header)) != header or os.fstat(stream.fileno()).st_size != size:
            return None
        return np.memmap(stream, dtype, mode="r", offset=len(header), shape=shape)


def _write(file: Path, batches: Iterable[np.ndarray], shape: tuple[int, ...], dtype: Any) -> None:
    """Writes the features, then what proves them whole; each appears at once or not at all."""
    crc = 0

    def write_features(stream: BinaryIO) -> None:
        nonlocal crc
        # By plain writing, not through a map: on a full disk that would kill the process (SIGBUS).
        stream.write(_header(shape, dtype))
        for rows in batches:
            crc = zlib.crc32(_bytes(rows), crc)
            stream.write(_bytes(rows))

    def write_manifest(stream: BinaryIO) -> None:
        stream.write(json.dumps(_about(file, shape, dtype, crc), indent=1).encode())

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (
            _written(file.parent, write_features) as features,
            _written(file.parent, write_manifest) as manifest,
            # Of two processes that write the same features, no one sees a file of each.
            locked(file.parent),
        ):
            features.replace(file)
            manifest.replace(_manifest(file))
    except OSError as error:
        raise NamedOSError(
            f"the features could not be written to {escaped(file.parent)}"
            f"{if_full(error)}: {escaped(error)}",
            error.errno,
        ) from error


@contextlib.contextmanager
def _written(folder: Path, write: Callable[[BinaryIO], None]) -> Iterator[Path]:
    """A file under a temporary name, whole and on the disk; removed unless it gets another name."""
    part = folder / f".features-{uuid.uuid4().hex}"
    try:
        with part.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)
