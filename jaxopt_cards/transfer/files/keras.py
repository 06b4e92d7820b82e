"""Weights saved by Keras."""

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from jaxopt_cards.core.checks import check_number
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.optional import missing
from jaxopt_cards.transfer.files.foreign import SLACK, UnfitError, kind_of, nested, opened
from jaxopt_cards.transfer.files.hdf5 import contents
from jaxopt_cards.transfer.files.keras_config import check_length, model_of, parsed
from jaxopt_cards.transfer.files.keras_legacy import legacy
from jaxopt_cards.transfer.files.keras_numbered import Named, numbered
from jaxopt_cards.transfer.files.zip import zip_archive

_EPSILON = 1e-5  # of nnx.BatchNorm and layers.MLP


@declare
def from_keras(
    path: str | os.PathLike, *, epsilon: float | None = None, max_bytes: int = 2**33
) -> dict[str, Any]:
    r"""Reads the weights of a Keras model: `.keras`, `.weights.h5`, or a legacy `.h5`.

    Layers have their names from Keras; layers of a nested model are under its name. Arrays without
    a name in NNX (recurrent kernels, random seeds) keep Keras's name, which may be a number.
    Optimizers are left out. This needs the library h5py, but not Keras.

    Before version 3.6, Keras wrote the names of layers only into the configuration. A
    `.weights.h5` file does not have it, and for a subclassed model it has no layers. Then a layer
    is under its path in the file: `layers/dense_1` is the second Dense of the model.

    Batch normalisation adds :math:`\epsilon` to the variance: 0.001 in Keras, and 0.00001 in NNX,
    where it is not an array and cannot be restored. The difference is added to the variance, so
    the outputs are the same. A `.keras` file, or a legacy `.h5` of a whole model, contains
    :math:`\epsilon`; `.weights.h5` does not. Layer normalisation has no stored variance: pass the
    `epsilon` of Keras, which the report of `restore` shows, to `nnx.LayerNorm`.

    The file is read by another process, so it can neither crash this one nor hang it for longer
    than a minute (plus a second for each 16 MiB). On Linux, that process may use `2 * max_bytes`
    plus 1 GiB of memory, besides the file.

    Equation:
        .. math:: (\gamma, \beta, \mu, \sigma^2 + \epsilon - 10^{-5})_{\mathrm{Keras}} =
            (\mathrm{scale}, \mathrm{bias}, \mathrm{mean}, \mathrm{var})_{\mathrm{NNX}}

    Args:
        path: the file.
        epsilon: float in [0, inf); the epsilon of batch normalisation in Keras, if the file does
            not contain it; Keras's default is 0.001. Default: NNX's, which does not change
            variances; `restore` of the path itself warns of it in its report.
        max_bytes: int in [1, inf); files that declare more are refused.

    Returns:
        A nested dictionary of NumPy arrays, for `restore`; bfloat16 is kept.

    Raises:
        ValueError: the file is damaged, in another format, too large, or refers to other files; a
            `.weights.h5` file, in which arrays are numbered, has a normalisation without scale or
            bias, which only a `.keras` file describes.
        OSError: the file does not exist or cannot be read.
        ImportError: h5py is not installed.

    References:
        François Chollet et al. (2015), Keras. Géron (2017), chapter 11, "Reusing Models from Other
        Frameworks".

    Use when: a network was trained with Keras, with any backend.
    Avoid when: an untrusted file is also available as `.safetensors`, a far simpler format.

    Example:
        >>> import tempfile
        >>> import h5py, numpy as np
        >>> from jaxopt_cards import transfer
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with h5py.File(f"{folder}/net.weights.h5", "w") as file:
        ...         file["layers/dense/vars/0"] = np.ones((3, 2))
        ...         file["layers/dense/vars"].attrs["name"] = "hidden1"
        ...     transfer.from_keras(f"{folder}/net.weights.h5")["hidden1"]["kernel"].shape
        (3, 2)
    """
    if epsilon is not None:
        check_number("epsilon", epsilon, "[0, inf)")
    if importlib.util.find_spec("h5py") is None:
        raise missing("h5py")
    return read_keras(path, epsilon, max_bytes)[0]


def read_keras(
    path: str | os.PathLike, epsilon: float | None = None, max_bytes: int = 2**33
) -> tuple[dict[str, Any], dict[str, float | None]]:
    """The result of `from_keras`, and the epsilon that each normalisation needs in NNX, by path.

    An epsilon is `None` if neither the file nor the argument has it.
    """
    with opened(path, max_bytes) as file, _unpacked(file, max_bytes) as unpacked:
        weights, config, version = unpacked
        found = contents(weights, max_bytes)
        model = model_of(config or parsed(found.config, max_bytes + SLACK))
        arrays = legacy(found.root, model, found.version) if found.is_legacy else None
        arrays = arrays or numbered(found.root, model, version)
        epsilons: dict[str, float | None] = {}
        return nested(_with_nnx_epsilon(arrays, epsilon, epsilons)), epsilons


@contextmanager
def _unpacked(file: BinaryIO, max_bytes: int) -> Iterator[tuple[BinaryIO, dict[str, Any], str]]:
    """The HDF5 file; and, from `.keras`, the model's configuration and Keras's version."""
    if (kind := kind_of(file)) == "an HDF5 file":
        yield file, {}, ""
        return
    if kind != "a zip archive":
        raise UnfitError(f"is not a file of Keras, but {kind}")
    archive = zip_archive(file, max_bytes)
    if not {"config.json", "model.weights.h5"} <= archive.entries.keys():
        raise UnfitError("is a zip archive that Keras did not write")
    with tempfile.TemporaryFile() as weights:
        archive.copy("model.weights.h5", weights)
        weights.flush()
        described = {}
        for name in ("config.json", "metadata.json"):
            entry = archive.entries.get(name)
            check_length(entry.size if entry else 0)
            described[name] = parsed(archive.read(name) if entry else "", max_bytes + SLACK)
        version = str(described["metadata.json"].get("keras_version", ""))
        yield weights, described["config.json"], version


def _with_nnx_epsilon(
    arrays: Named, epsilon: float | None, epsilons: dict[str, float | None]
) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays, with variances that give Keras's outputs with NNX's epsilon."""
    for path, array, layer in arrays:
        module, _, name = path.rpartition("/")
        said = layer.epsilon() if layer else None
        if said is not None:
            check_number("epsilon", said, "[0, inf)")
        if name == "var":
            given = epsilon if said is None else said
            epsilons[module] = None if given is None else _EPSILON
            given = _EPSILON if given is None else given
            array = (array + (given - _EPSILON)).astype(array.dtype)
        elif name == "scale" or said is not None:
            epsilons.setdefault(module, said)
        yield path, array
