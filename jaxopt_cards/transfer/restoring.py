"""Restoring of parameters from another tree or a file, with a report."""

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
    r"""Replaces the parameters that a mask selects by the saved ones with the same path.

    The trees may be NNX modules or states, Linen's dictionaries, or results of functions such as
    `from_torch`. `checkpoint` may also be the path of a file or folder, whose format is recognised
    by its contents. Arrays with another shape or dtype are refused, and never cut, padded or,
    without `cast`, cast. The report has an entry for every path. In an NNX module, running
    statistics are restored, too; dropout rates and random streams are not.

    A parameter that a module has in several places, such as an embedding that is also the output
    layer, stays one parameter. It is chosen if one of its places is, and taken from whichever path
    was saved.

    `report.warnings` lists what a file does not contain: the order of the axes of a square kernel,
    whether a transposed convolution needs `transpose_kernel=True`, and the epsilon of a
    normalisation, if the model's may differ.

    Equation:
        .. math:: \theta_p \leftarrow \tilde\theta_{r(p)} \quad\text{where the mask selects } p

        with :math:`\tilde\theta` = `checkpoint` and :math:`r` = `rename`.

    Args:
        params: the tree to fill: an NNX module, a state or a dictionary.
        checkpoint: the tree to take from, or a path: a file that `from_numpy`, `from_safetensors`,
            `from_torch` or `from_keras` can read, a folder of Orbax, or the checkpoints of
            `training.fit`, which has the best model without its frozen parameters. That of
            `fine_tune` has such a folder for each stage: `stage0`, `stage1`, ….
        mask: which parameters, as in `select`: a regular expression over the paths of `params`,
            such as `"hidden[123]"`, a tree of bools, or a function of `params` to one. Default:
            all.
        rename: regular expressions and their replacements, applied one after another to the paths
            of `params` (not of the file) to get those of `checkpoint`: `{"^hidden": "layer"}`,
            `{"^": "state_dict/"}`. The report shows the result.
        cast: whether to cast floating-point numbers, such as float64 to float32 or float32 to
            bfloat16, unless they would become infinite.
        max_bytes: int in [1, inf); files and folders that declare more are refused.

    Returns:
        `(params, report)`: the filled tree, with the same structure, and a `RestoreReport`.

    Raises:
        ValueError: the mask is invalid; a pattern of `rename` matches no path; a replacement is not
            text, or has a group that its pattern lacks; a leaf is neither a number nor an array of
            numbers; nothing could be restored; two paths of one parameter were saved with different
            values; a file or folder is damaged, too large or in an unknown format.
        OSError: the file does not exist or cannot be read.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Reusing a TensorFlow Model": restoring `hidden[123]`.

    Use when: some layers of a network should start from a trained one.
    Avoid when: you want to resume a run; `training.fit` resumes from its own checkpoints.

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
        unused   hidden2/bias was saved, but not used
        unused   hidden2/kernel was saved, but not used
        unused   logits/bias was saved, but not used
        unused   logits/kernel was saved, but not used
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
        if number in filled:  # from another path of the same parameter
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
        raise NamedError(f"nothing was restored:\n{report}\nThe saved paths are{listed(source)}")
    return _rebuilt(params, places, filled), report


def _one(
    leaf: Any, origins: dict[str, str], source: dict[str, Any], cast: bool, report: RestoreReport
) -> Any:
    """The array saved under one of a parameter's paths, or else the parameter itself."""
    found = {}
    for name, origin in origins.items():
        if origin not in source:
            continue
        _check_numbers("params", name, leaf)
        _check_numbers("checkpoint", origin, source[origin])
        if [hasattr(x, "dtype") and is_key(x) for x in (leaf, source[origin])] == [True, False]:
            report.skipped[name] = "a random key is not a weight"
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
                f"{first} and {name} are one parameter of the model, but the arrays saved "
                f"under {escaped(origins[first])} and {escaped(origin)} differ; choose one of them "
                "with rename",
            )
    return as_it_is(found[first])


def _rebuilt(params: PyTree, places: list[Any], filled: dict[int, Any]) -> PyTree:
    """The tree with new arrays; shared parameters stay shared, as `jax.tree` would not do."""
    if len(filled) == len(places):
        return jax.tree.unflatten(jax.tree.structure(params), filled.values())
    by_path = {name: filled[number] for number, names in places for name in names}
    graph, state = nnx.split(params)
    leaves = [by_path[name] for name in path_names(state)]
    return nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(state), leaves))


def _origins(names: list[str], rename: Any) -> dict[str, str]:
    """The saved path of each path; raises if a pattern matches none."""
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
    """The variables of an NNX module that are not restored, by path, with the reason."""
    reasons = {nnx.RngState: "a random stream is not a weight", Rate: "a rate is not a weight"}
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
    # The dtype of a random key has no kind; objects, strings and times are not numbers.
    if getattr(dtype_of(leaf), "kind", "f") in "OSUmM":
        raise HyperparameterError(f"{argument} at {path!r}", "be an array", leaf)
