"""The NNX filter behind `transfer.freeze` and `transfer.unfreeze_schedule`."""

import dataclasses
import inspect
import re
from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import listed, path_names, variable_names
from jaxopt_cards.selection import compiled, of_bools


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Selects the parameters to train: those that are not frozen."""

    patterns: tuple[str, ...]
    batch_stats: bool = True  # whether the statistics of frozen batch normalisation stay, too
    all_but: bool = False  # whether the patterns say what is not frozen
    # All paths of each parameter, by each of them. NNX gives a filter the first one only.
    names: dict[str, tuple[str, ...]] = dataclasses.field(
        default_factory=dict, compare=False, repr=False
    )

    def of(self, model: nnx.Module) -> "Frozen":
        """The same for a model, of whose parameters any path may match."""
        return dataclasses.replace(self, names=variable_names(model))

    def __call__(self, path: tuple, variable: Any) -> bool:
        """Whether the variable at this path is a parameter to train."""
        is_param = nnx.filterlib.to_predicate(nnx.Param)(path, variable)
        return is_param and not self.freezes("/".join(map(str, path)))

    def freezes(self, path: str) -> bool:
        """Whether a parameter of this path is frozen."""
        names = self.names.get(path, (path,))
        matches = (re.search(pattern, name) for pattern in self.patterns for name in names)
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


def as_filter(trainable: Any, model: nnx.Module) -> Any:
    """The NNX filter for what `trainable` says of a model: a filter, or a mask.

    A mask is a regular expression over paths, a tree of bools, or a function from parameters to
    such a tree. A function of two arguments, path and variable, is a filter.
    """
    if isinstance(trainable, str):
        compiled(trainable)
        return Frozen((trainable,), all_but=True)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    if inspect.isfunction(trainable) and len(inspect.signature(trainable).parameters) == 1:
        trainable = trainable(params)
    if not isinstance(trainable, Mapping | nnx.State):
        return trainable
    mask = nnx.to_pure_dict(trainable) if isinstance(trainable, nnx.State) else dict(trainable)
    if path_names(mask) != path_names(params):
        raise NamedError(
            f"trainable must have a bool for each parameter, got one for{listed(path_names(mask))}"
            f"\nand the parameters are{listed(path_names(params))}"
        )
    bools = zip(path_names(mask), jax.tree.leaves(of_bools("trainable", mask)), strict=True)
    chosen = tuple(f"^{re.escape(name)}$" for name, trained in bools if trained)
    return Frozen(chosen, all_but=True)
