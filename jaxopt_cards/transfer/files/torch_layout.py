"""Conversion of arrays from PyTorch's names and axes to NNX's."""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from jaxopt_cards.core.checks import shown
from jaxopt_cards.selection import compiled
from jaxopt_cards.transfer.files.foreign import UnfitError, nested, with_slashes

_NAMES = {"running_mean": "mean", "running_var": "var"}

_Convert = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a state_dict does not contain about its weights: regular expressions over module paths.

    Attributes:
        embeddings: for modules whose two-dimensional weights without bias are tables.
        inputs_first: for modules whose weights are stored as (inputs, outputs, ...), or `None`.
    """

    embeddings: re.Pattern[str]
    inputs_first: re.Pattern[str] | None

    def tree(self, arrays: Iterable[tuple[str, np.ndarray]], is_torch: bool) -> dict[str, Any]:
        """The nested dictionary of arrays in PyTorch's or in Flax's convention."""
        found = with_slashes(arrays)
        if not is_torch and self.inputs_first is not None:
            raise UnfitError(
                "is read with the names and axes of Flax, where inputs_first has no meaning: give "
                'convention="torch", or leave it out'
            )
        return nested((self._in_nnx(found) if is_torch else found).items())

    def _in_nnx(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The arrays with NNX's names; tied weights stay tied."""
        converted: dict[str, np.ndarray] = {}
        # Views, since copies would double the memory.
        made: dict[tuple[int, _Convert], np.ndarray] = {}
        is_matched = self.inputs_first is None
        for path, array in arrays.items():
            module, slash, name = path.rpartition("/")
            if name == "num_batches_tracked":
                continue
            if name == "weight" and array.ndim:
                name, convert = self._weight(module, array, f"{module}/bias" in arrays)
                is_matched = is_matched or convert is _inputs_first
                if (key := (id(array), convert)) not in made:
                    made[key] = convert(array)
                array = made[key]
            if (new := f"{module}{slash}{_NAMES.get(name, name)}") in converted:
                raise UnfitError(f"has {shown(new)} twice")
            converted[new] = array
        if self.inputs_first is not None and not is_matched:
            raise UnfitError(
                f"has no weight of two axes or more where inputs_first="
                f"{shown(self.inputs_first.pattern)} matches"
            )
        return converted

    def _weight(self, module: str, array: np.ndarray, has_bias: bool) -> tuple[str, _Convert]:
        """The name of a weight, and a function that reorders its axes."""
        if array.ndim == 1:
            return "scale", _as_it_is
        if self.inputs_first is not None and self.inputs_first.search(module):
            return "kernel", _inputs_first
        if array.ndim == 2 and not has_bias and self.embeddings.search(module):
            return "embedding", _as_it_is
        return "kernel", _outputs_first


def layout(embeddings: str, inputs_first: str | None) -> Layout:
    """Compiles the two arguments of a reader."""
    first = None if inputs_first is None else compiled(inputs_first)
    return Layout(compiled(embeddings), first)


def _as_it_is(array: np.ndarray) -> np.ndarray:
    return array


def _outputs_first(array: np.ndarray) -> np.ndarray:
    """From (outputs, inputs, height, width) to (height, width, inputs, outputs)."""
    return array.transpose(*range(2, array.ndim), 1, 0)


def _inputs_first(array: np.ndarray) -> np.ndarray:
    """From (inputs, outputs, height, width) to (height, width, inputs, outputs), flipped.

    PyTorch's transposed convolution is the gradient of a convolution, which flips its kernel;
    `nnx.ConvTranspose` does not.
    """
    flipped = array[(slice(None),) * 2 + (slice(None, None, -1),) * (array.ndim - 2)]
    return flipped.transpose(*range(2, array.ndim), 0, 1)
