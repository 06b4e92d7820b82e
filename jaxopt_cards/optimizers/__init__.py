"""The optimizers, one family a file: its `scale_by_*` transformations and their chains.

This package exports no functions, so that `jaxopt_cards.optimizers.adam` is the module. The
functions are at the top level: `jaxopt_cards.adam`.
"""

import inspect
from collections.abc import Callable
from typing import Any


def by_name() -> dict[str, Callable[..., Any]]:
    """The named optimizers: the functions of this package that need only a learning rate."""
    import jaxopt_cards

    found = {name: getattr(jaxopt_cards, name) for name in jaxopt_cards.__all__}
    return {name: thing for name, thing in found.items() if _is_optimizer(name, thing)}


def _is_optimizer(name: str, thing: Any) -> bool:
    if not getattr(thing, "__module__", "").startswith(__name__) or name.startswith("scale_by"):
        return False
    first = next(iter(inspect.signature(thing).parameters.values()))
    # Without a rate, `lbfgs` needs a function to search along.
    return first.name == "learning_rate" and first.default is not None
