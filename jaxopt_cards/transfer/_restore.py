"""Restores a part of a tree of parameters from another tree, with a report."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_cards.selection import compiled, listed, marked, path_name, path_names

PyTree = Any


@dataclasses.dataclass(frozen=True)
class RestoreReport:
    """What became of each parameter: `print` it."""

    taken: dict[str, str]  # path: the path it was saved under
    skipped: dict[str, str]  # path: why it was left alone
    refused: dict[str, str]  # path: why what was saved does not fit

    def __str__(self) -> str:
        """One line a path."""
        lines = [
            f"taken    {path}" + (f" from {origin}" if origin != path else "")
            for path, origin in self.taken.items()
        ]
        lines += [f"skipped  {path}: {why}" for path, why in self.skipped.items()]
        lines += [f"refused  {path}: {why}" for path, why in self.refused.items()]
        return "\n".join(lines)


def restore(
    params: PyTree,
    saved: PyTree,
    pattern: str = "",
    rename: Mapping[str, str] | None = None,
) -> tuple[PyTree, RestoreReport]:
    r"""Replaces the parameters whose path matches a pattern by saved ones of the same path.

    Works on any two trees: NNX modules or states, Linen's dictionaries, arrays loaded from a file.
    An array of another shape or dtype is refused, never cut, padded or cast. The report tells what
    became of every path.

    Equation:
        .. math:: \theta_p \leftarrow \tilde\theta_{r(p)} \quad\text{where the pattern matches } p

        with :math:`\tilde\theta` = `saved` and :math:`r` = `rename`.

    Args:
        params: the tree to fill: an NNX module, a state, a dictionary.
        saved: the tree to take from.
        pattern: regular expression, searched for in the paths of `params`, such as
            `"hidden[123]"`. Default: all.
        rename: regular expressions and their replacements, applied in turn to the paths of
            `params` to get those of `saved`: `{"^hidden": "layer"}`. The report shows the outcome.

    Returns:
        `(params, report)`: the tree filled, of the same structure, and a `RestoreReport`.

    State:
        None.

    Raises:
        ValueError: a pattern, also one of `rename`, matches no path; nothing at all could be taken.

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
    """
    chosen = jax.tree.leaves(marked("restore", params, pattern))
    source = dict(zip(path_names(saved), jax.tree.leaves(saved), strict=True))
    origins = _origins(path_names(params), rename)
    taken: dict[str, str] = {}
    skipped: dict[str, str] = {}
    refused: dict[str, str] = {}

    def one(path: Any, leaf: Any) -> Any:
        name = path_name(path)
        if not next(wanted):
            skipped[name] = "the pattern does not match"
            return leaf
        origin = origins[name]
        if origin not in source:
            skipped[name] = f"nothing was saved under {origin}"
        elif why := _misfit(leaf, source[origin]):
            refused[name] = why
        else:
            taken[name] = origin
            return _as_it_is(source[origin])
        return leaf

    wanted = iter(chosen)
    filled = jax.tree_util.tree_map_with_path(one, params)
    report = RestoreReport(taken, skipped, refused)
    if not taken:
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
        origins = {name: search.sub(replacement, origin) for name, origin in origins.items()}
    return origins


def _misfit(wanted: Any, found: Any) -> str:
    """Why an array cannot take another's place; empty if it can."""
    ours, theirs = (f"{_dtype(array)}{list(np.shape(array))}" for array in (wanted, found))
    return "" if ours == theirs else f"saved is {theirs}, needed is {ours}"


def _as_it_is(array: Any) -> Any:
    """The array on the device, unless JAX would cast it, as float64 while 64-bit types are off."""
    moved = jnp.asarray(array)
    return moved if moved.dtype == _dtype(array) else array


def _dtype(array: Any) -> Any:
    # Not JAX's result_type, to which float64 is float32 while 64-bit types are off.
    return array.dtype if hasattr(array, "dtype") else np.result_type(array)
