"""The NNX filter behind `transfer.freeze`."""

import dataclasses
import re
from typing import Any

from flax import nnx


@dataclasses.dataclass(frozen=True)
class Frozen:
    """Selects the parameters to train: all but those whose path matches the pattern."""

    pattern: str

    def __call__(self, path: tuple, variable: Any) -> bool:
        """Whether the variable at this path is a parameter to train."""
        is_param = nnx.filterlib.to_predicate(nnx.Param)(path, variable)
        return is_param and not re.search(self.pattern, "/".join(map(str, path)))
