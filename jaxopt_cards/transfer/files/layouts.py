"""Warnings of `restore` about weights that names and shapes do not determine."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

_DEFAULT = 1e-6  # the epsilon of nnx.LayerNorm and nnx.GroupNorm


@dataclasses.dataclass(frozen=True)
class Source:
    """The origin of weights.

    Attributes:
        convention: "flax", "keras", or "unknown".
        epsilons: by path, the epsilon of each normalisation; `None` if the file lacks it.
    """

    convention: str
    epsilons: Mapping[str, float | None] = dataclasses.field(default_factory=dict)


def source_of(tree: Any) -> Source:
    """NumPy arrays come from a file of unknown layout, JAX arrays from Flax."""
    is_foreign = any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree))
    return Source("unknown" if is_foreign else "flax")


def warnings_of(
    params: Any, shapes: Mapping[str, Any], taken: Mapping[str, str], source: Source
) -> dict[str, str]:
    """What is ambiguous about the restored weights, by path.

    Args:
        params: the filled tree; the settings of an NNX module are compared.
        shapes: the shapes of its arrays by path.
        taken: the saved path of each array.
        source: the origin of the weights.
    """
    if source.convention == "flax":
        return {}
    found = {}
    if source.convention == "unknown":
        kernels = [path for path in taken if path.endswith("kernel") and len(shapes[path]) == 2]
        found = {path: _SQUARE for path in kernels if shapes[path][0] == shapes[path][1] > 1}
    if isinstance(params, nnx.Module):
        found |= _of_modules(params, shapes, taken, source)
    return found


_SQUARE = (
    "is square, so its shape does not tell whether it was saved as (in, out) or as (out, in): "
    "PyTorch's Linear is (out, in) and is transposed; GPT-2's Conv1D must not be transposed, "
    "pass inputs_first= to from_torch"
)


def _of_modules(
    model: nnx.Module, shapes: Mapping[str, Any], taken: Mapping[str, str], source: Source
) -> dict[str, str]:
    """Warnings about settings of modules, such as epsilon, which are not arrays."""
    found = {}
    for path, module in nnx.iter_modules(model):
        place = "/".join(map(str, path))
        arrays = {name: f"{place}/{name}".removeprefix("/") for name in vars(module)}
        mine = {name: path for name, path in arrays.items() if path in taken}
        if isinstance(module, nnx.ConvTranspose) and "kernel" in mine:
            shape = shapes[mine["kernel"]]
            if not module.transpose_kernel and shape[-1] == shape[-2] > 1:
                found[mine["kernel"]] = (
                    "has as many inputs as outputs: a kernel of PyTorch or Keras needs "
                    "nnx.ConvTranspose(transpose_kernel=True)"
                )
        if isinstance(module, nnx.BatchNorm | nnx.LayerNorm | nnx.GroupNorm) and mine:
            origin = taken[next(iter(mine.values()))].rpartition("/")[0]
            for why in _of_epsilon(module, origin, source):
                found[place or "model"] = why
    return found


def _of_epsilon(module: Any, origin: str, source: Source) -> Iterator[str]:
    """Warnings about the epsilon of a normalisation."""
    here, is_batch = float(module.epsilon), isinstance(module, nnx.BatchNorm)
    if source.convention == "keras":
        said = source.epsilons.get(origin)
        if said is None and is_batch:
            yield (
                "was saved without its epsilon, and its variance is unchanged: Keras's default "
                "is 0.001, use from_keras(path, epsilon=0.001)"
            )
        elif said is None:
            yield f"was saved without its epsilon: here it is {here:g}, Keras's default 0.001"
        elif said != here:
            yield f"needs epsilon={said:g}, here it is {here:g}"
    elif is_batch and here != 1e-5:
        yield f"has epsilon={here:g}; PyTorch's default, and what from_keras expects, is 1e-05"
    elif not is_batch and here == _DEFAULT:
        yield f"has epsilon={here:g}, NNX's default; PyTorch's is 1e-05, Keras's 0.001"
