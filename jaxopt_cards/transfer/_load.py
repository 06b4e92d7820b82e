"""Files and folders of any known format as trees of arrays; the format is told by the content."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxopt_cards._checks import escaped
from jaxopt_cards.selection import path_names
from jaxopt_cards.training._stored import checksum
from jaxopt_cards.transfer._foreign import UnfitError, kind_of, nested, opened
from jaxopt_cards.transfer._keras import from_keras
from jaxopt_cards.transfer._numpy import from_numpy
from jaxopt_cards.transfer._safetensors import from_safetensors
from jaxopt_cards.transfer._torch import from_torch


def load(function: str, path: str | os.PathLike) -> dict[str, Any]:
    """The arrays in a file or folder, with NNX's names."""
    if Path(path).is_dir():
        return _folder(function, Path(path))
    with opened(function, path, 1) as file:
        reader = _reader(file)
    return reader(path)


def _reader(file: Any) -> Callable[[Any], dict[str, Any]]:
    """The function that reads a file, or that says best why it is not read."""
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
        raise UnfitError("is of no format that is known: .npz, .safetensors, .pt, .keras, .h5")
    names = zipfile.ZipFile(file).namelist()
    if "model.weights.h5" in names:
        return from_keras
    return from_torch if any(name.endswith("/data.pkl") for name in names) else from_numpy


def _folder(function: str, path: Path) -> dict[str, Any]:
    """What Orbax wrote, or the best model of a `checkpoint_dir` of `training.fit`."""
    if (path / "_METADATA").is_file():
        return nested(_orbax(function, path).items())
    steps = (step for step in path.iterdir() if step.name.isdecimal() and (step / "run").is_dir())
    last = max(steps, key=lambda step: int(step.name), default=None)
    if last is None:
        raise ValueError(
            f"{function}: {escaped(path)} is neither a folder of "
            "orbax.checkpoint.StandardCheckpointer nor a checkpoint_dir of training.fit"
        )
    saved = _orbax(function, last / "run")
    if checksum(saved) != _noted(last):
        raise ValueError(
            f"{function}: {escaped(last)} is damaged; remove it to take the one before"
        )
    best = [
        (name.removeprefix(prefix), array)
        for name, array in saved.items()
        for prefix in ("best/params/", "best/variables/")
        if name.startswith(prefix)
    ]
    if not best:
        raise ValueError(
            f"{function}: {escaped(last)} has no best model: training.fit did not write it"
        )
    return nested(best)


def _noted(step: Path) -> int | None:
    """The checksum of all arrays that `training.Checkpointer` wrote beside them."""
    try:
        return json.loads((step / "about" / "metadata").read_text())["about"]["arrays (CRC-32)"]
    except (OSError, ValueError, LookupError, TypeError):
        return None  # as damaged as if it were another


def _orbax(function: str, path: Path) -> dict[str, Any]:
    """The arrays of a folder by path."""
    # Here, not above: it takes longer to import than most files take to read.
    import orbax.checkpoint as ocp

    try:
        handler = ocp.PyTreeCheckpointHandler()
        with ocp.Checkpointer(handler) as reader:
            metadata = handler.metadata(path.absolute()).tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), metadata)
            tree = reader.restore(path.absolute(), restore_args=as_numpy)
    except Exception as error:
        reason = escaped(str(error).partition("\n")[0], 200)
        raise ValueError(
            f"{function}: {escaped(path)} is damaged: {type(error).__name__}: {reason}"
        ) from error
    # A state of NNX has one more key below each parameter.
    names = [name.removesuffix("/value") for name in path_names(tree)]
    return dict(zip(names, jax.tree.leaves(tree), strict=True))
