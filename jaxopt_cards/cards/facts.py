"""Facts: what was measured of each transformation and optimizer, read from a file."""

import functools
import json
from importlib.resources import files
from typing import Any, NamedTuple

FILE = "facts.json"


class Facts(NamedTuple):
    """What was measured of a transformation: `python -m jaxopt_cards.cards.measure` does it.

    Attributes:
        state_bytes: for each float32 parameter.
        passes: how many arrays like the parameters a step reads or writes, in the compiled program;
            where it has branches, in the dearest.
        operations: of arithmetic in a step, for each parameter.
        needs_params: whether `update` needs the parameters.
        elementwise: whether an element's update depends on that element alone.
        traced: the hyperparameters that may be traced: one program then trains with many values.
        settings: arguments on which these numbers depend, if any; all others are as usual.
    """

    state_bytes: float
    passes: float
    operations: float
    needs_params: bool
    elementwise: bool
    traced: tuple[str, ...]
    settings: str


def facts(name: str) -> Facts | None:
    """Of a technique; `None` where nothing is measured."""
    found = measured()["techniques"].get(name)
    return found and Facts(**found | {"traced": tuple(found["traced"])})


@functools.cache
def measured() -> dict[str, Any]:
    """The file: versions, and the facts of each technique."""
    content: dict[str, Any] = json.loads(files(__package__).joinpath(FILE).read_text("utf-8"))
    return content
