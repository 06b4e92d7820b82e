"""The NNX filter behind `transfer.freeze`, `transfer.unfreeze_schedule` and masks in `fit`."""

import dataclasses
import inspect
import re
from collections.abc import Callable
from types import EllipsisType
from typing import Any

import jax
from flax import nnx

from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import named, path_names, variable_names
from jaxopt_cards.selection import as_mask, mask_of


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Selects the parameters to train: those that are not frozen."""

    masks: tuple[Any, ...]  # as of `select`, `hashable`
    batch_stats: bool = True  # whether the statistics of frozen batch normalisation stay, too
    all_but: bool = False  # whether the masks say what is not frozen
    # All paths of each parameter, by each of them. NNX gives a filter the first one only.
    names: dict[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    def of(self, model: nnx.Module) -> "Frozen":
        """The same for a model, of whose parameters any path may match."""
        masks = tuple(
            mask if isinstance(mask, str) else _paths_of(model, mask) for mask in self.masks
        )
        return dataclasses.replace(self, masks=masks, names=variable_names(model))

    def __call__(self, path: tuple, variable: Any) -> bool:
        """Whether the variable at this path is a parameter to train."""
        is_param = nnx.filterlib.to_predicate(nnx.Param)(path, variable)
        return is_param and not self.freezes("/".join(map(str, path)))

    def freezes(self, path: str) -> bool:
        """Whether a parameter of this path is frozen."""
        if not all(isinstance(mask, str) for mask in self.masks):
            raise NamedError(
                "a tree or function selects parameters of a model: use freeze(mask).of(model)"
            )
        names = self.names.get(path, (path,))
        matches = (re.search(mask, name) for mask in self.masks for name in names)
        return any(matches) != self.all_but

    def freeze_statistics(self, model: nnx.Module) -> None:
        """Lets batch normalisation without a parameter to train use its running statistics."""
        if not self.batch_stats:
            return
        for path, module in nnx.iter_modules(model):
            if isinstance(module, nnx.BatchNorm):
                names = path_names(nnx.state(module, nnx.Param)) or ["mean"]
                if all(self.freezes("/".join(map(str, (*path, name)))) for name in names):
                    module.use_running_average = True


@dataclasses.dataclass(frozen=True)
class _Tree:
    """A tree of bools as a function of parameters, equal to those of equal trees."""

    structure: Any
    leaves: tuple[bool, ...]

    def __call__(self, params: Any) -> Any:
        return jax.tree.unflatten(self.structure, self.leaves)


def hashable(mask: Any, argument: str = "mask") -> str | Callable[[Any], Any]:
    """A mask as programs are compiled for: a regular expression or a function of parameters."""
    mask = as_mask("" if mask is None else mask, argument)
    if isinstance(mask, nnx.Module):
        mask = nnx.state(mask, nnx.Param)
    if isinstance(mask, nnx.State):
        mask = nnx.to_pure_dict(mask)
    if isinstance(mask, str) or (callable(mask) and not isinstance(mask, dict)):
        return mask
    leaves, structure = jax.tree.flatten(mask)
    return _Tree(structure, tuple(leaves))


def _paths_of(model: nnx.Module, mask: Any, argument: str = "mask") -> str:
    """A regular expression of just the parameters that the mask selects."""
    marks = named(mask_of(nnx.to_pure_dict(nnx.state(model, nnx.Param)), mask, argument))
    return f"^({'|'.join(re.escape(path) for path, chosen in marks if chosen)})$"


def filter_of(trainable: Any, model: nnx.Module) -> Any:
    """The NNX filter of the trained parameters, from a filter or a mask as in `select`."""
    if isinstance(trainable, Frozen):
        return trainable.of(model)
    if _is_filter(trainable):
        return trainable
    mask = hashable(trainable, "trainable")
    if not isinstance(mask, str):
        mask = _paths_of(model, mask, "trainable")
    return Frozen((mask,), all_but=True).of(model)


def _is_filter(trainable: Any) -> bool:
    """Whether NNX accepts it as a filter; a function must take a path and a variable."""
    if isinstance(trainable, bool | type | tuple | list | EllipsisType):
        return True
    if not callable(trainable) or isinstance(trainable, nnx.Module):
        return False
    try:
        inspect.signature(trainable).bind((), None)
    except TypeError:
        return False
    return True
