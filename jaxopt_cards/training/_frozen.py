"""The NNX filter behind `transfer.freeze`."""

import dataclasses
import re
from typing import Any

from flax import nnx


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Selects the parameters to train: all but those whose path matches the pattern."""

    pattern: str
    batch_stats: bool = True  # whether the statistics of frozen batch normalisation stay, too

    def __call__(self, path: tuple, variable: Any) -> bool:
        """Whether the variable at this path is a parameter to train."""
        is_param = nnx.filterlib.to_predicate(nnx.Param)(path, variable)
        return is_param and not self._matches(path)

    def hold_statistics(self, model: nnx.Module) -> None:
        """Lets frozen batch normalisation normalise by its running statistics, and keep them."""
        if not self.batch_stats:
            return
        for path, module in nnx.iter_modules(model):
            if isinstance(module, nnx.BatchNorm) and self._matches((*path, "mean")):
                module.use_running_average = True

    def _matches(self, path: tuple) -> bool:
        return bool(re.search(self.pattern, "/".join(map(str, path))))
