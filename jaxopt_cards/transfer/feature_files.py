"""Cached features on disk, found by a fingerprint of their inputs and verified before use."""

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
    """SHA-256 of everything that features depend on: the program, its arrays, and the inputs."""
    digest = hashlib.sha256()
    # Another compiler, processor or number of threads rounds differently, so that the features
    # would differ from those computed in memory.
    about = environment({})
    for library in ("flax", "optax", "jaxopt_cards"):  # whose effect is in the program's text
        del about[library]
    digest.update(json.dumps(about).encode())
    # The program's text contains all relevant settings of the layers and of JAX.
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
    """The features with that key, mapped from their file, which is written first if missing."""
    folder = Path(directory)
    if folder.exists() and not folder.is_dir():
        raise HyperparameterError("directory", "be a folder", str(folder))
    file = folder / f"features-{key}.npy"
    # NumPy's format does not support bfloat16: its bits are stored as integers.
    stored = np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype
    features = _found(file, shape, stored)
    if features is None:
        _write(file, batches, shape, stored)
        features = _found(file, shape, stored)
    if features is None:
        raise NamedOSError(f"{escaped(file)} differs from what was just written to it")
    return features.view(dtype)


def _arrays_read(run: Any, arguments: tuple[Any, Any]) -> list[Any]:
    """The arrays of the model that the program reads; it does not read those of higher layers."""
    program = jax.make_jaxpr(run.__wrapped__)(*arguments)
    read = {id(variable) for equation in program.jaxpr.eqns for variable in equation.invars}
    read |= {id(variable) for variable in program.jaxpr.outvars}
    leaves = jax.tree.leaves(arguments[0])
    inputs = program.jaxpr.invars[: len(leaves)]
    kept = [leaf for leaf, name in zip(leaves, inputs, strict=True) if id(name) in read]
    return kept + program.consts


def _add(digest: Any, array: np.ndarray) -> None:
    """Adds an array, a few rows at a time, since it may be a mapped file larger than memory."""
    digest.update(f"{array.dtype}{array.shape}".encode())
    rows = array.reshape(1) if array.ndim == 0 else array
    for start in range(0, len(rows), ROWS_AT_A_TIME):
        digest.update(_bytes(rows[start : start + ROWS_AT_A_TIME]))


def _bytes(array: np.ndarray) -> memoryview:
    # As bytes, without a copy: bfloat16 does not support the buffer protocol.
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _header(shape: tuple[int, ...], dtype: Any) -> bytes:
    """The header of an `.npy` file with such an array."""
    stream = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, about)
    return stream.getvalue()


def _manifest(file: Path) -> Path:
    return file.with_suffix(".json")


def _about(file: Path, shape: tuple[int, ...], dtype: Any, crc: int) -> dict[str, Any]:
    """The contents of the manifest."""
    about = {"format": 1, "file": file.name, "shape": list(shape), "dtype": str(dtype)}
    return about | {"crc32": crc}


def _found(file: Path, shape: tuple[int, ...], dtype: Any) -> np.ndarray | None:
    """The features in a file, if they have the checksum in the manifest."""
    try:
        # Another process may replace both files later; open files do not change.
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
    """The array in a file, if it has exactly this shape and dtype."""
    header = _header(shape, dtype)
    size = len(header) + int(np.prod(shape)) * dtype.itemsize
    with file.open("rb") as stream:
        # The header is compared, not parsed: the file is not trusted.
        if stream.read(len(header)) != header or os.fstat(stream.fileno()).st_size != size:
            return None
        return np.memmap(stream, dtype, mode="r", offset=len(header), shape=shape)


def _write(file: Path, batches: Iterable[np.ndarray], shape: tuple[int, ...], dtype: Any) -> None:
    """Writes the features and their manifest, each atomically."""
    crc = 0

    def write_features(stream: BinaryIO) -> None:
        nonlocal crc
        # Not through a memory map: on a full disk, that would kill the process (SIGBUS).
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
            # Two processes that write the same features must not mix their files.
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
    """A complete file under a temporary name; removed unless it is renamed."""
    part = folder / f".features-{uuid.uuid4().hex}"
    try:
        with part.open("xb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        yield part
    finally:
        part.unlink(missing_ok=True)
