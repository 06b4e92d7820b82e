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

    Layers have the names that they have in Keras; those of a model inside a model are under its
    name. What has no name in NNX (recurrent kernels, random seeds) keeps Keras's own, which may be
    just its number. Optimizers are left out. Needs the library h5py, and not Keras.

    Before version 3.6, Keras wrote the names of layers into the configuration only, which a
    `.weights.h5` does not have and a subclassed model does not list layers in. There a layer is
    under its path in the file: `layers/dense_1` is the second Dense of those that the model lists.

    Batch normalisations add :math:`\epsilon` to the variance: 0.001 in Keras, 0.00001 in NNX,
    where it is no array and cannot be restored. The difference is put into the variance, so that
    the outputs are the same. A `.keras` file, or a legacy `.h5` of a whole model, says what
    :math:`\epsilon` was; `.weights.h5` does not. Layer normalisations keep no variance: give
    `nnx.LayerNorm` the `epsilon` of Keras, which the report of `restore` names.

    The file is read by another process, so it can neither crash this one nor hang it for longer
    than a minute (and a second for each 16 MiB); on Linux with at most `2 * max_bytes` and 1 GiB of
    memory beside the file's.

    Equation:
        .. math:: (\gamma, \beta, \mu, \sigma^2 + \epsilon - 10^{-5})_{\mathrm{Keras}} =
            (\mathrm{scale}, \mathrm{bias}, \mathrm{mean}, \mathrm{var})_{\mathrm{NNX}}

    Args:
        path: the file.
        epsilon: float in [0, inf); that of batch normalisations in Keras where the file does not
            say: 0.001 unless it was set, as in `restore(model, from_keras(path, epsilon=0.001))`.
            Default: NNX's, which leaves variances as they are; `restore` of the path itself
            warns of it in its report.
        max_bytes: whole number > 0; files that declare more are not read.

    Returns:
        A nested dictionary of NumPy arrays, for `restore`; bfloat16 as it is.

    Raises:
        ValueError: the file is damaged, of another format, too large, or leads to other files; a
            `.weights.h5`, where arrays have numbers for names, has a normalisation without scale
            or without bias: a `.keras` file says which.
        OSError: there is no such file, or it may not be read.
        ImportError: h5py is not installed.

    References:
        François Chollet et al. (2015), Keras. Chapter 11, "Reusing Models from Other Frameworks".

    Use when: a network was trained with Keras, on any of its backends.
    Avoid when: a stranger's file comes as `.safetensors` too; HDF5 is a far larger library.

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
    """What `from_keras` returns, and the epsilon that each normalisation needs in NNX, by path.

    `None` is one that neither the file nor the argument says.
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
    """The HDF5 file; the model's configuration and Keras's version, which `.keras` has beside."""
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
    """The arrays, with variances that give Keras's outputs once NNX adds an epsilon of its own."""
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
