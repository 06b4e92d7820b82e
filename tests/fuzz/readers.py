"""All that reads files: how to write valid ones, and how to read them."""

import dataclasses
import gzip
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from jaxopt_cards import data, layers, training, transfer
from jaxopt_cards.data import mnist_files as _mnist
from jaxopt_cards.storage.arrays import json_checksum
from jaxopt_cards.transfer import feature_files as _feature_files
from tests.fuzz.worker import MAX_BYTES

FOREIGN = Path(__file__).parents[1] / "transfer" / "foreign"
ARRAYS = {"hidden1/kernel": np.ones((4, 3), "float32"), "hidden1/bias": np.arange(3, dtype="i4")}
FEATURES = np.arange(12, dtype="float32").reshape(4, 3)
DIGITS = np.arange(4 * 5002, dtype=np.uint8).reshape(-1, 2, 2)  # 5,000 are those to validate
_LIMIT: Any = {"max_bytes": MAX_BYTES}


def _no_mending(folder: Path, rng: random.Random) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Reader:
    """A function that reads files, or folders, of one kind."""

    names: tuple[str, ...]  # with which its errors may begin
    write: Callable[[Path], list[Path]]  # valid files or folders into an empty folder
    read: Callable[[Path], Any]
    cases: int = 100  # of a short run
    mend: Callable[[Path, random.Random], None] = _no_mending  # checksums, so that more is read


def _model(seed: int = 0) -> Any:
    from flax import nnx

    settings: Any = {"units": (4,), "batch_norm": True, "dropout_rate": 0.25}
    return layers.MLP(4, 3, rngs=nnx.Rngs(seed), **settings)


def _foreign(*patterns: str) -> Callable[[Path], list[Path]]:
    def write(folder: Path) -> list[Path]:
        found = sorted(file for pattern in patterns for file in FOREIGN.glob(pattern))
        return [Path(shutil.copy(file, folder)) for file in found]

    return write


def _numpy(folder: Path) -> list[Path]:
    np.savez(folder / "stored.npz", **ARRAYS)
    np.savez_compressed(folder / "packed.npz", **ARRAYS)
    np.save(folder / "alone.npy", FEATURES)
    return [folder / "stored.npz", folder / "packed.npz", folder / "alone.npy"]


def _safetensors(folder: Path) -> list[Path]:
    from safetensors.numpy import save_file

    save_file(ARRAYS, folder / "net.safetensors", metadata={"format": "np"})
    return [folder / "net.safetensors", *_foreign("*.safetensors")(folder)]


def _any_file(folder: Path) -> list[Path]:
    small = _foreign("torch.pt", "torch_legacy.pt", "keras.keras", "keras_legacy.h5")
    return [*_numpy(folder), *_safetensors(folder), *small(folder)]


def _orbax(folder: Path) -> list[Path]:
    import orbax.checkpoint as ocp

    tree = {"hidden1": {"kernel": ARRAYS["hidden1/kernel"]}, "l": [ARRAYS["hidden1/bias"], 3]}
    for name, settings in {"one": {}, "many": {"use_ocdbt": False}}.items():
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**settings)) as saver:
            saver.save(folder / name, tree)
    return [folder / "one", folder / "many"]


def _zoo(folder: Path) -> list[Path]:
    zoo = transfer.Zoo(folder / "zoo")
    zoo.store("net", _model(), data="digits", accuracy=0.5)
    return [folder / "zoo"]


def _read_zoo(folder: Path) -> None:
    zoo = transfer.Zoo(folder, max_bytes=MAX_BYTES)
    str(zoo.card("net"))
    zoo.load("net")


def _mend_zoo(folder: Path, rng: random.Random) -> None:
    """The card's checksum becomes that of the weights."""
    contents = (folder / "net" / "weights.safetensors").read_bytes()
    card = json.loads((folder / "net" / "card.json").read_bytes())
    card |= {"size": len(contents), "sha256": hashlib.sha256(contents).hexdigest()}
    (folder / "net" / "card.json").write_text(json.dumps(card))


def _tree() -> Any:
    import jax.numpy as jnp

    return {"best": {"params": {"a": jnp.arange(6.0)}, "variables": {}}, "n": jnp.ones(2, int)}


def _checkpoints(folder: Path) -> list[Path]:
    with training.Checkpointer(folder / "run", {"seed": 1}) as checkpoints:
        checkpoints.save(1, _tree(), notes="one")
        checkpoints.save(2, _tree(), notes="two")
    return [folder / "run"]


def _read_checkpoints(folder: Path) -> None:
    import warnings

    import jax

    with training.Checkpointer(folder, {"seed": 1}) as checkpoints, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that one is damaged
        found = checkpoints.restore(_tree())
    if found is not None:
        jax.tree.map(np.testing.assert_array_equal, found[1], _tree())


def _mend_checkpoints(folder: Path, rng: random.Random) -> None:
    """The checksum of each description becomes its own."""
    for file in folder.glob("*/about/metadata"):
        stored = json.loads(file.read_bytes())
        stored["checksum"] = json_checksum(stored["about"])
        file.write_text(json.dumps(stored))


def _restored(path: Path) -> None:
    params = {"hidden1": {"kernel": np.zeros((4, 3), "float32")}, "a": np.zeros(6, "float32")}
    str(transfer.restore(params, path, **_LIMIT)[1])


def _features(folder: Path) -> list[Path]:
    _read_features(folder / "cache")
    return [folder / "cache"]


def _read_features(folder: Path) -> None:
    shape, dtype = FEATURES.shape, FEATURES.dtype
    found = _feature_files.on_disk(folder, "0" * 64, [FEATURES], shape, dtype)
    np.testing.assert_array_equal(found, FEATURES)  # damaged ones are written anew


_KNOWN = {
    "_TRAIN_X": DIGITS,
    "_TRAIN_Y": DIGITS[:, 0, 0] % 10,
    "_TEST_X": DIGITS[:9],
    "_TEST_Y": DIGITS[:9, 0, 0] % 10,
}


def _idx(array: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def _mnist_files(folder: Path) -> list[Path]:
    for name in ("plain", "packed"):
        (folder / name).mkdir()
        for attribute, array in _KNOWN.items():
            file = folder / name / getattr(_mnist, attribute).name
            if name == "packed":
                file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(_idx(array)))
            else:
                file.write_bytes(_idx(array))
    return [folder / "plain", folder / "packed"]


def _read_mnist(folder: Path) -> None:
    small = {
        attribute: _mnist._IdxFile(
            getattr(_mnist, attribute).name, hashlib.md5(_idx(array)).hexdigest(), array.shape
        )
        for attribute, array in _KNOWN.items()
    }
    with mock.patch.multiple(_mnist, **small):
        test = data.mnist(folder).test
    wanted = DIGITS[:9].reshape(9, 4).astype("float32") / np.float32(255)
    np.testing.assert_array_equal(test.x, wanted)


READERS = {
    "from_numpy": Reader(
        ("from_numpy",), _numpy, lambda path: transfer.from_numpy(path, **_LIMIT), 400
    ),
    "from_safetensors": Reader(
        ("from_safetensors",),
        _safetensors,
        lambda path: transfer.from_safetensors(path, **_LIMIT),
        400,
    ),
    "from_torch": Reader(
        ("from_torch",),
        _foreign("torch*.pt"),
        lambda path: transfer.from_torch(path, **_LIMIT),
        400,
    ),
    "from_keras": Reader(
        ("from_keras",),
        _foreign("keras*.keras", "keras*.h5"),
        lambda path: transfer.from_keras(path, **_LIMIT),
        12,
    ),
    "restore": Reader(("restore",), _any_file, _restored, 25),
    "restore (Orbax)": Reader(("restore",), _orbax, _restored, 12),
    "restore (checkpoints of fit)": Reader(
        ("restore",), _checkpoints, _restored, 12, _mend_checkpoints
    ),
    "Zoo": Reader(("Zoo.load", "Zoo.card"), _zoo, _read_zoo, 40, _mend_zoo),
    "Checkpointer": Reader(
        ("Checkpointer",), _checkpoints, _read_checkpoints, 12, _mend_checkpoints
    ),
    "cache_features": Reader(("cache_features",), _features, _read_features, 60),
    "mnist": Reader(("mnist",), _mnist_files, _read_mnist, 80),
}
