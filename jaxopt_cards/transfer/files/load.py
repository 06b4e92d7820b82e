"""Reading of files and folders in any known format, which is recognised by the contents."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxopt_cards.core.checks import check_count, escaped
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.storage.arrays import MOST_METADATA, checksum
from jaxopt_cards.transfer.files.foreign import UnfitError, kind_of, nested, opened
from jaxopt_cards.transfer.files.keras import from_keras, read_keras
from jaxopt_cards.transfer.files.layouts import Source
from jaxopt_cards.transfer.files.npz import from_numpy
from jaxopt_cards.transfer.files.orbax import arrays_in
from jaxopt_cards.transfer.files.safetensors import from_safetensors
from jaxopt_cards.transfer.files.torch import from_torch
from jaxopt_cards.transfer.files.zip import zip_archive


def load(path: str | os.PathLike, max_bytes: int) -> tuple[dict[str, Any], Source]:
    """The arrays in a file or folder, with NNX's names, and their origin."""
    check_count("max_bytes", max_bytes)
    if Path(path).is_dir():
        return _folder(Path(path), max_bytes), Source("flax")
    with opened(path, max_bytes) as file:
        reader = _reader(file)
    if reader is from_keras:
        arrays, epsilons = read_keras(path, max_bytes=max_bytes)
        return arrays, Source("keras", epsilons)
    return reader(path, max_bytes=max_bytes), Source("unknown")


def _reader(file: Any) -> Callable[..., dict[str, Any]]:
    """The function that reads a file, or that raises the best error for it."""
    kind = kind_of(file)
    if kind == "a safetensors file":
        return from_safetensors
    if kind == "an HDF5 file":
        return from_keras
    if kind.startswith("a pickle"):
        return from_torch
    if kind.startswith("a single array"):
        return from_numpy
    if kind != "a zip archive":
        raise UnfitError("is of an unknown format: .npz, .safetensors, .pt, .keras, .h5")
    names = zip_archive(file, 2**63).entries  # the reader has its own limit
    if "model.weights.h5" in names:
        return from_keras
    return from_torch if any(name.endswith("/data.pkl") for name in names) else from_numpy


def _folder(path: Path, max_bytes: int) -> dict[str, Any]:
    """The arrays in a folder of Orbax, or the best model in the checkpoints of `fit`."""
    if (path / "_METADATA").is_file():
        with _about(path):
            return nested(arrays_in(path.absolute(), max_bytes).items())
    steps = (step for step in path.iterdir() if step.name.isdecimal() and (step / "run").is_dir())
    last = max(steps, key=lambda step: int(step.name), default=None)
    if last is None:
        raise NamedError(
            f"{escaped(path)} is neither a folder of "
            "orbax.checkpoint.StandardCheckpointer nor the checkpoints of training.fit",
        )
    with _about(last / "run"):
        saved = arrays_in((last / "run").absolute(), max_bytes)
    if checksum(saved) != _noted(last):
        raise NamedError(f"{escaped(last)} is damaged; delete it to use the checkpoint before it")
    best = {
        name.removeprefix(prefix): array
        for name, array in saved.items()
        for prefix in ("best/params/", "best/variables/")
        if name.startswith(prefix)
    }
    if not best:
        raise NamedError(f"{escaped(last)} has no best model: training.fit did not write it")
    with _about(last):
        return nested(best.items())


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Adds the name of the folder to errors."""
    try:
        yield
    except UnfitError as error:
        raise NamedError(f"{escaped(path)} {escaped(error)}") from None


def _noted(step: Path) -> int | None:
    """The checksum of all arrays that `training.Checkpointer` wrote."""
    path = step / "about" / "metadata"
    if not path.is_file():  # reading a pipe may never end
        return None
    try:
        with path.open("rb") as file:
            return json.loads(file.read(MOST_METADATA))["about"]["arrays (CRC-32)"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None  # damaged, as if the checksum differed
