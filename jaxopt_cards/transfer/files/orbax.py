"""Folders of Orbax, read by `orbax_process` in a separate process."""

from pathlib import Path

import numpy as np

from jaxopt_cards.transfer.files.apart import read_apart
from jaxopt_cards.transfer.files.foreign import UnfitError

_PROGRAM = Path(__file__).with_name("orbax_process.py")


def arrays_in(folder: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of a folder by path."""
    arguments = (str(folder), str(max_bytes))
    found: dict[str, np.ndarray] = {}
    for path, array in read_apart(_PROGRAM, *arguments, size=max_bytes, max_bytes=max_bytes)[1]:
        path = path.removesuffix("/value")  # in each parameter of an NNX state
        if path in found:
            raise UnfitError(f"has {path!r} twice")
        found[path] = array
    return found
