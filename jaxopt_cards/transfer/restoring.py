"""Restores a part of a tree of parameters from another tree or a file, with a report."""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, escaped
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import listed, path_name, path_names, shared
from jaxopt_cards.layers import Rate
from jaxopt_cards.selection import compiled, mask_of
from jaxopt_cards.storage.arrays import is_key
from jaxopt_cards.transfer.files.layouts import source_of, warnings_of
from jaxopt_cards.transfer.files.load import load
from jaxopt_cards.transfer.restore_report import RestoreReport
from jaxopt_cards.transfer.restored_array import (
    as_it_is,
    dtype_of,
    in_precision,
    is_same,
    misfit,
)

PyTree = Any


@declare
def restore(
    params: PyTree,
    checkpoint: PyTree | str | os.PathLike,
    mask: Any = None,
    rename: Mapping[str, str] | None = None,
    *,
    cast: bool = False,
    max_bytes: int = 2**33,
) -> tuple[PyTree, RestoreReport]:
    r"""Replaces the parameters that a mask selects by saved ones of the same path.

    Works on any two trees: NNX modules or states, Linen's dictionaries, what `from_torch` and its
    like return; or with the path of a file or folder, whose format is told by what is in it. An
    array of another shape or dtype is refused, never cut, padded or, unless asked for, cast. The
    report tells what became of every path. Of an NNX module, running statistics are restored too;
    dropout rates and random streams, which are not weights, never are.

    A parameter that a module has in several places, as an embedding that is the output layer, too,
    stays one. It is chosen if one of its places is, and taken from whichever path was saved.

    What a file does not tell is in `report.warnings`: how a square kernel lies, that a transposed
    convolution of PyTorch or Keras needs `transpose_kernel=True`, and which epsilon a normalisation
    had, as far as the model's differs.

    Equation:
        .. math:: \theta_p \leftarrow \tilde\theta_{r(p)} \quad\text{where the mask selects } p

        with :math:`\tilde\theta` = `checkpoint` and :math:`r` = `rename`.

    Args:
        params: the tree to fill: an NNX module, a state, a dictionary.
        checkpoint: the tree to take from, or a path: a file that `from_numpy`, `from_safetensors`,
            `from_torch` or `from_keras` reads, a folder of Orbax, or the checkpoints of
            `training.fit`, of which the best model is taken: all of it but what was frozen. That of
            `fine_tune` has such a folder for each stage: `stage0`, `stage1`, ….
        mask: which parameters, as in `select`: a regular expression over the paths of `params`,
            such as `"hidden[123]"`, a tree of bools, or a function of `params` to one. Default:
            all.
        rename: regular expressions and their replacements, applied in turn to the paths of
            `params` (not of the file) to get those of `checkpoint`: `{"^hidden": "layer"}`,
            `{"^": "state_dict/"}`. The report shows the outcome.
        cast: bool; numbers of floating point are taken in another precision, such as float64 for
            float32 or float32 for bfloat16, unless they would become infinite.
        max_bytes: whole number > 0; files and folders that declare more are not read.

    Returns:
        `(params, report)`: the tree filled, of the same structure, and a `RestoreReport`.

    Raises:
        ValueError: a mask that does not fit; a pattern of `rename` matches no path; a replacement
            is not text, or names a group that its pattern does not have; a leaf is neither a number
            nor an array of numbers; nothing at all could be taken; two paths of one parameter were
            saved with other numbers; a file or folder is damaged, too large or of an unknown
            format.
        OSError: there is no such file, or it may not be read.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Reusing a TensorFlow Model": restoring `hidden[123]`.

    Use when: the lower layers of a network should start from a trained one.
    Avoid when: a whole run should go on; `training.fit` resumes from its own checkpoints.

    Example:
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, transfer
        >>> trained = layers.MLP(4, 3, units=(2, 2), rngs=nnx.Rngs(0))
        >>> model = layers.MLP(4, 5, units=(2,), rngs=nnx.Rngs(1))
        >>> model, report = transfer.restore(model, trained, "hidden")
        >>> print(report)
        taken    hidden1/bias
        taken    hidden1/kernel
        skipped  logits/bias: not selected by the mask
        skipped  logits/kernel: not selected by the mask
        unused   hidden2/bias was saved, but taken by nothing
        unused   hidden2/kernel was saved, but taken by nothing
        unused   logits/bias was saved, but taken by nothing
        unused   logits/kernel was saved, but taken by nothing
    """
    for argument, tree in (("params", params), ("checkpoint", checkpoint)):
        if tree is None:
            raise HyperparameterError(argument, "be a tree of arrays", tree)
    if isinstance(params, str | os.PathLike):
        raise HyperparameterError("params", "be the tree to fill", params)
    chosen = jax.tree.leaves(mask_of(params, mask))
    origins = _origins(path_names(params), rename)
    about = source_of(checkpoint)
    saved = checkpoint
    if isinstance(checkpoint, str | os.PathLike):
        saved, about = load(checkpoint, max_bytes)
    source = dict(zip(path_names(saved), jax.tree.leaves(saved), strict=True))
    report = RestoreReport({}, {}, {})
    no_weights = _no_weights(params)
    places = shared(params)
    filled: dict[int, Any] = {}
    leaves = zip(places, jax.tree.leaves(params), chosen, strict=True)
    for (number, names), leaf, wanted in leaves:
        if number in filled:  # by the first place of the same parameter
            continue
        why = no_weights.get(names[0]) if wanted else "not selected by the mask"
        report.skipped.update(dict.fromkeys(names, why) if why else {})
        mine = {name: origins[name] for name in names}
        filled[number] = leaf if why else _one(leaf, mine, source, cast, report)
    used = set(report.taken.values())
    shapes = {name: np.shape(filled[number]) for number, names in places for name in names}
    report = dataclasses.replace(
        report,
        unused=tuple(sorted(source.keys() - used)),
        warnings=warnings_of(params, shapes, report.taken, about),
    )
    if not report.taken:
        raise NamedError(f"nothing could be taken:\n{report}\nSaved were the paths{listed(source)}")
    return _rebuilt(params, places, filled), report


def _one(
    leaf: Any, origins: dict[str, str], source: dict[str, Any], cast: bool, report: RestoreReport
) -> Any:
    """What was saved for a parameter under one of its paths, or the parameter as it is."""
    found = {}
    for name, origin in origins.items():
        if origin not in source:
            continue
        _check_numbers("params", name, leaf)
        _check_numbers("checkpoint", origin, source[origin])
        if [hasattr(x, "dtype") and is_key(x) for x in (leaf, source[origin])] == [True, False]:
            report.skipped[name] = "a random key is no weight"
            continue
        array = in_precision(source[origin], leaf) if cast else source[origin]
        if why := misfit(leaf, array):
            report.refused[name] = why
            continue
        found[name] = array
        if array is not source[origin]:
            report.cast[name] = str(dtype_of(source[origin]))
    if not found:
        for name, origin in origins.items():
            if name not in report.skipped | report.refused:
                report.skipped[name] = f"nothing was saved under {origin}"
        return leaf
    first = next(iter(found))
    for name, origin in origins.items():
        if name in found or name not in report.refused:
            report.taken[name] = origin if name in found else origins[first]
        if name in found and not is_same(found[name], found[first]):
            raise NamedError(
                f"{first} and {name} are one parameter of the model, but what was saved "
                f"under {escaped(origins[first])} and {escaped(origin)} differs; take one of them "
                "with rename",
            )
    return as_it_is(found[first])


def _rebuilt(params: PyTree, places: list[Any], filled: dict[int, Any]) -> PyTree:
    """The tree with other arrays; `jax.tree` would give each place of a parameter its own."""
    if len(filled) == len(places):
        return jax.tree.unflatten(jax.tree.structure(params), filled.values())
    by_path = {name: filled[number] for number, names in places for name in names}
    graph, state = nnx.split(params)
    leaves = [by_path[name] for name in path_names(state)]
    return nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(state), leaves))


def _origins(names: list[str], rename: Any) -> dict[str, str]:
    """For each path the path it was saved under; each pattern must occur in some path."""
    if not isinstance(rename or {}, Mapping):
        raise NamedError(f"rename must map patterns to replacements, got {rename!r}")
    origins = {name: name for name in names}
    for pattern, replacement in (rename or {}).items():
        search = compiled(pattern)
        if not any(search.search(origin) for origin in origins.values()):
            raise NamedError(
                f"rename has {pattern!r}, which matches none of the paths"
                f"{listed(origins.values())}",
            )
        try:
            origins = {name: search.sub(replacement, origin) for name, origin in origins.items()}
        except (re.error, IndexError, TypeError) as error:
            raise NamedError(
                f"rename has {pattern!r}, whose replacement must be text with groups of "
                f"the pattern, got {replacement!r}: {error}",
            ) from None
    return origins


def _no_weights(params: Any) -> dict[str, str]:
    """What an NNX module has beside parameters and statistics, by path, and why it stays."""
    reasons = {nnx.RngState: "a random stream is no weight", Rate: "a rate is no weight"}
    kinds = tuple(reasons)
    variables = jax.tree_util.tree_leaves_with_path(params, is_leaf=lambda v: isinstance(v, kinds))
    return {
        path_name(path): reason
        for path, variable in variables
        for kind, reason in reasons.items()
        if isinstance(variable, kind)
    }


def _check_numbers(argument: str, path: str, leaf: Any) -> None:
    """Raises unless a leaf is a number, an array of numbers, or a random key."""
    # A random key's dtype has no kind; those without numbers are Python's objects, texts and times.
    if getattr(dtype_of(leaf), "kind", "f") in "OSUmM":
        raise HyperparameterError(f"{argument} at {path!r}", "be an array", leaf)
