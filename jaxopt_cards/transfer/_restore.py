"""Restores a part of a tree of parameters from another tree or a file, with a report."""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_cards._checks import HyperparameterError
from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.layers import Rate
from jaxopt_cards.selection import compiled, listed, marked, path_name, path_names
from jaxopt_cards.training._stored import is_key
from jaxopt_cards.transfer._load import load

PyTree = Any


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """What became of each parameter: `print` it.

    Attributes:
        taken: from paths to those that they were saved under.
        skipped: from paths to why they were left alone.
        refused: from paths to why what was saved does not fit.
        cast: from paths to the dtype that was saved, where `cast=True` changed it.
        unused: what else was saved.
    """

    taken: dict[str, str]
    skipped: dict[str, str]
    refused: dict[str, str]
    cast: dict[str, str] = dataclasses.field(default_factory=dict)
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line a path."""
        lines = [
            f"taken    {path}"
            + (f" from {origin}" if origin != path else "")
            + (f", cast from {self.cast[path]}" if path in self.cast else "")
            for path, origin in self.taken.items()
        ]
        lines += [f"skipped  {path}: {why}" for path, why in self.skipped.items()]
        lines += [f"refused  {path}: {why}" for path, why in self.refused.items()]
        lines += [f"unused   {path} was saved, but taken by nothing" for path in self.unused]
        return "\n".join(lines)


@named_in_errors
def restore(
    params: PyTree,
    checkpoint: PyTree | str | os.PathLike,
    pattern: str = "",
    rename: Mapping[str, str] | None = None,
    *,
    cast: bool = False,
) -> tuple[PyTree, RestoreReport]:
    r"""Replaces the parameters whose path matches a pattern by saved ones of the same path.

    Works on any two trees: NNX modules or states, Linen's dictionaries, what `from_torch` and its
    like return; or with the path of a file or folder, whose format is told by what is in it. An
    array of another shape or dtype is refused, never cut, padded or, unless asked for, cast. The
    report tells what became of every path. Of an NNX module, running statistics are restored too;
    dropout rates and random streams, which are no weights, never are.

    Equation:
        .. math:: \theta_p \leftarrow \tilde\theta_{r(p)} \quad\text{where the pattern matches } p

        with :math:`\tilde\theta` = `checkpoint` and :math:`r` = `rename`.

    Args:
        params: the tree to fill: an NNX module, a state, a dictionary.
        checkpoint: the tree to take from, or a path: a file that `from_numpy`, `from_safetensors`,
            `from_torch` or `from_keras` reads, a folder of Orbax, or the `checkpoint_dir` of
            `training.fit`, of which the best model is taken: all of it but what was frozen. That of
            `fine_tune` has such a folder for each stage: `stage0`, `stage1`, ….
        pattern: regular expression, searched for in the paths of `params`, such as
            `"hidden[123]"`. Default: all.
        rename: regular expressions and their replacements, applied in turn to the paths of
            `params` (not of the file) to get those of `checkpoint`: `{"^hidden": "layer"}`,
            `{"^": "state_dict/"}`. The report shows the outcome.
        cast: bool; numbers of floating point are taken in another precision, such as float64 for
            float32 or float32 for bfloat16, unless they would become infinite.

    Returns:
        `(params, report)`: the tree filled, of the same structure, and a `RestoreReport`.

    State:
        None.

    Raises:
        ValueError: a pattern, also one of `rename`, matches no path; a replacement is no text, or
            names a group that its pattern does not have; a leaf is no number or array of numbers;
            nothing at all could be taken; a file or folder is damaged or of no format that is
            known.
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
        skipped  logits/bias: the pattern does not match
        skipped  logits/kernel: the pattern does not match
        unused   hidden2/bias was saved, but taken by nothing
        unused   hidden2/kernel was saved, but taken by nothing
        unused   logits/bias was saved, but taken by nothing
        unused   logits/kernel was saved, but taken by nothing
    """
    for argument, tree in (("params", params), ("checkpoint", checkpoint)):
        if tree is None:
            raise HyperparameterError("restore", argument, "be a tree of arrays", tree)
    if isinstance(params, str | os.PathLike):
        raise HyperparameterError("restore", "params", "be the tree to fill", params)
    chosen = jax.tree.leaves(marked("restore", params, pattern))
    origins = _origins(path_names(params), rename)
    is_file = isinstance(checkpoint, str | os.PathLike)
    saved = load("restore", checkpoint) if is_file else checkpoint
    source = dict(zip(path_names(saved), jax.tree.leaves(saved), strict=True))
    report = RestoreReport({}, {}, {})
    no_weights = _no_weights(params)

    def one(path: Any, leaf: Any) -> Any:
        name = path_name(path)
        if not next(wanted):
            report.skipped[name] = "the pattern does not match"
            return leaf
        if name in no_weights:
            report.skipped[name] = no_weights[name]
            return leaf
        origin = origins[name]
        if origin not in source:
            report.skipped[name] = f"nothing was saved under {origin}"
            return leaf
        _check_numbers("params", name, leaf)
        _check_numbers("checkpoint", origin, source[origin])
        if [hasattr(x, "dtype") and is_key(x) for x in (leaf, source[origin])] == [True, False]:
            report.skipped[name] = "a random key is no weight"
            return leaf
        found = _in_precision(source[origin], leaf) if cast else source[origin]
        if why := _misfit(leaf, found):
            report.refused[name] = why
            return leaf
        report.taken[name] = origin
        if found is not source[origin]:
            report.cast[name] = str(_dtype(source[origin]))
        return as_it_is(found)

    wanted = iter(chosen)
    filled = jax.tree_util.tree_map_with_path(one, params)
    used = set(report.taken.values())
    report = dataclasses.replace(report, unused=tuple(sorted(source.keys() - used)))
    if not report.taken:
        raise ValueError(
            f"restore: nothing could be taken:\n{report}\nSaved were the paths{listed(source)}"
        )
    return filled, report


def _origins(names: list[str], rename: Any) -> dict[str, str]:
    """For each path the path it was saved under; each pattern must occur in some path."""
    if not isinstance(rename or {}, Mapping):
        raise ValueError(f"restore: rename must map patterns to replacements, got {rename!r}")
    origins = {name: name for name in names}
    for pattern, replacement in (rename or {}).items():
        search = compiled("restore", pattern)
        if not any(search.search(origin) for origin in origins.values()):
            raise ValueError(
                f"restore: rename has {pattern!r}, which matches none of the paths"
                f"{listed(origins.values())}"
            )
        try:
            origins = {name: search.sub(replacement, origin) for name, origin in origins.items()}
        except (re.error, IndexError, TypeError) as error:
            raise ValueError(
                f"restore: rename has {pattern!r}, whose replacement must be text with groups of "
                f"the pattern, got {replacement!r}: {error}"
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
    if getattr(_dtype(leaf), "kind", "f") in "OSUmM":
        raise HyperparameterError("restore", f"{argument} at {path!r}", "be an array", leaf)


def _misfit(wanted: Any, found: Any) -> str:
    """Why an array cannot take another's place; empty if it can."""
    ours, theirs = (f"{_dtype(array)}{list(np.shape(array))}" for array in (wanted, found))
    if ours == theirs:
        return ""
    floats = all(jnp.issubdtype(_dtype(array), jnp.floating) for array in (wanted, found))
    hint = "; cast=True would cast it" if floats and np.shape(wanted) == np.shape(found) else ""
    return f"saved is {theirs}, needed is {ours}{hint}"


def _in_precision(found: Any, wanted: Any) -> Any:
    """The array in the precision that is wanted, where that is another and no number is lost."""
    dtype = _dtype(wanted)
    is_float = all(jnp.issubdtype(d, jnp.floating) for d in (dtype, _dtype(found)))
    if not is_float or dtype == _dtype(found):
        return found
    array = np.asarray(found)
    with np.errstate(over="ignore"):
        new = array.astype(dtype)
    return new if np.array_equal(np.isfinite(new), np.isfinite(array)) else found


def as_it_is(array: Any) -> Any:
    """The array on the device, unless JAX would cast it, as float64 while 64-bit types are off."""
    moved = jnp.asarray(array)
    return moved if moved.dtype == _dtype(array) else array


def _dtype(array: Any) -> Any:
    # Not JAX's asarray, to which float64 is float32 while 64-bit types are off.
    return array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype
