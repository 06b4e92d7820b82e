"""Features on disk: found again by what they were made of, and proven whole before use."""

import hashlib
import io
import json
import os
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import jax
import numpy as np

from jaxopt_cards._checks import HyperparameterError
from jaxopt_cards.training._environment import environment
from jaxopt_cards.training._stored import is_key

ROWS_AT_A_TIME = 4096


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
        raise HyperparameterError("cache_features", "directory", "be a folder", str(folder))
    file = folder / f"features-{key}.npy"
    # NumPy's format does not know bfloat16: its bits are stored as whole numbers.
    stored = np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype
    features = _found(file, shape, stored)
    if features is None:
        _write(file, batches, shape, stored)
        features = _found(file, shape, stored)
    if features is None:
        raise OSError(f"cache_features: {file} is not what was just written to it")
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
    header = _header(shape, dtype)
    try:
        # The header is compared, not read: nothing in the file is believed.
        with file.open("rb") as stream:
            same = stream.read(len(header)) == header
        size = len(header) + int(np.prod(shape)) * dtype.itemsize
        if not same or file.stat().st_size != size:
            return None
        features = np.memmap(file, dtype, mode="r", offset=len(header), shape=shape)
        about = json.loads(_manifest(file).read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    crc = 0
    for start in range(0, len(features), ROWS_AT_A_TIME):
        crc = zlib.crc32(_bytes(features[start : start + ROWS_AT_A_TIME]), crc)
    return features if about == _about(file, shape, dtype, crc) else None


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

    file.parent.mkdir(parents=True, exist_ok=True)
    # The old manifest goes first, and the new one comes last.
    _manifest(file).unlink(missing_ok=True)
    _write_at_once(file, write_features)
    _write_at_once(_manifest(file), write_manifest)


def _write_at_once(file: Path, write: Any) -> None:
    part = file.parent / f".features-{uuid.uuid4().hex}"
    try:
        try:
            with part.open("xb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OSError(
            error.errno,
            f"cache_features: the features could not be written to {file.parent}. Is the disk "
            f"full? {error}",
        ) from error
