"""Reads a folder of Orbax in a separate process, which a damaged folder may crash, fill or hang.

`orbax` runs this file with the folder and the limit. It imports only `reader_process` from this
package, and nothing from Orbax, to start quickly.
"""

import json
import math
import re
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from jaxopt_cards.transfer.files.reader_process import UnfitError, answer, limit_memory

MOST_METADATA = 2**26  # bytes; about 200,000 arrays
BASE = 2**29  # bytes of memory for Python, the libraries and their threads
# Few threads, since each has a stack in the limited memory.
CONTEXT = {"file_io_concurrency": {"limit": 4}, "data_copy_concurrency": {"limit": 2}}


def read(folder: Path, max_bytes: int, write: Callable[[Any], None]) -> dict[str, Any]:
    """Writes the arrays of a folder, and returns their description."""
    size = size_on_disk(folder)
    limit_memory("RLIMIT_DATA", BASE + 3 * size)
    stores = dict(opened(folder))
    sizes = [size_of(name, store, max_bytes) for name, store in stores.items()]
    if (total := sum(sizes)) > max_bytes:
        raise UnfitError(f"would take {total} bytes, and max_bytes is {max_bytes}")
    # Memory for one array and for its chunks.
    limit_memory("RLIMIT_DATA", BASE + 3 * size + 2 * max(sizes, default=0))
    arrays = []
    for name, store in stores.items():
        array = np.asarray(store.read().result(), order="C")
        arrays.append((name, array.dtype.name, array.shape))
        write(array.reshape(-1).view(np.uint8).data)
    return {"arrays": arrays}


def size_on_disk(folder: Path) -> int:
    """Bytes of all files; raises for pipes and devices, which may never end."""
    size = 0
    for path in folder.rglob("*"):
        about = path.stat()
        if not stat.S_ISDIR(about.st_mode):
            if not stat.S_ISREG(about.st_mode):
                raise UnfitError(
                    f"has {str(path.relative_to(folder))[:60]!r}, which is not a regular file"
                )
            size += about.st_size
    return size


def opened(folder: Path) -> Iterator[tuple[str, Any]]:
    """Path and store of each array in the folder's metadata."""
    file = folder / "_METADATA"
    if file.stat().st_size > MOST_METADATA:
        raise UnfitError(f"has metadata of more than {MOST_METADATA} bytes")
    metadata = json.loads(file.read_bytes())
    driver = "zarr3" if metadata.get("use_zarr3") else "zarr"
    context = tensorstore.Context(CONTEXT)
    # Orbax since 2024 also writes chunks of zeros: a missing one was lost.
    is_sparse = not metadata.get("store_array_data_equal_to_fill_value", False)
    for entry in metadata["tree_metadata"].values():
        about = entry["value_metadata"]
        if about.get("skip_deserialize") or about["value_type"] == "string":
            continue
        keys = [str(key["key"]) for key in entry["key_metadata"]]
        kvstore = location(folder, ".".join(keys), metadata.get("use_ocdbt", True))
        spec = {"driver": driver, "kvstore": kvstore, "fill_missing_data_reads": is_sparse}
        yield "/".join(keys), tensorstore.open(spec, read=True, context=context).result()


def location(folder: Path, name: str, is_database: bool) -> dict[str, Any]:
    """The location of an array: in a database, or in its own folder."""
    if is_database:
        base = {"driver": "file", "path": f"{folder}/"}
        return {"driver": "ocdbt", "base": base, "path": f"{name}/"}
    if re.search(r"(^|/)\.\.?(/|$)|^/|\\", name):
        raise UnfitError(f"has the name {name[:60]!r}, which leads elsewhere")
    return {"driver": "file", "path": f"{folder}/{name}/"}


def size_of(name: str, store: Any, max_bytes: int) -> int:
    """The bytes needed to read an array: one chunk may be larger than the whole array."""
    dtype = store.dtype.numpy_dtype
    if dtype.kind not in "biufcV" or dtype.hasobject or len(store.shape) > 64:
        raise UnfitError(f"has {name[:60]!r} of dtype {store.dtype.name}, which is not a number")
    pieces = store.chunk_layout.read_chunk.shape or ()
    most = max(math.prod(store.shape), math.prod(pieces)) * dtype.itemsize
    if most > max_bytes:
        raise UnfitError(f"would take {most} bytes for {name[:60]!r}, and max_bytes is {max_bytes}")
    return most


def main(folder: str, max_bytes: str) -> None:
    """Reads a folder."""
    answer(lambda write: read(Path(folder), int(max_bytes), write))


if __name__ == "__main__":
    main(*sys.argv[1:])
