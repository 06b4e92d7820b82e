"""Measured facts about each transformation and optimizer, read from a file."""

import functools
import json
from importlib.resources import files
from typing import Any, NamedTuple

FILE = "facts.json"


class Facts(NamedTuple):
    """Facts about a transformation, measured by `python -m jaxopt_cards.cards.measure`.

    Attributes:
        state_bytes: bytes of state for each float32 parameter.
        passes: the number of arrays like the parameters that a step reads or writes, in the most
            expensive branch of the compiled program.
        operations: arithmetic operations of a step for each parameter.
        needs_params: whether `update` needs the parameters.
        elementwise: whether an element's update depends only on that element.
        gradient_at: the function that tells where `update` wants the gradient; empty if at the
            parameters.
        evaluated_at: the function that gives the parameters to evaluate; empty if they are the
            parameters themselves.
        traced: the hyperparameters that may be traced, so that one program trains with many values.
        settings: arguments on which these numbers depend, if any; others have their defaults.
    """

    state_bytes: float
    passes: float
    operations: float
    needs_params: bool
    elementwise: bool
    gradient_at: str
    evaluated_at: str
    traced: tuple[str, ...]
    settings: str


def facts(name: str) -> Facts | None:
    """The facts about a technique; `None` if nothing was measured."""
    found = measured()["techniques"].get(name)
    return found and Facts(**found | {"traced": tuple(found["traced"])})


def at(reader: str) -> str:
    """In words: at which point a gradient or a model is measured."""
    return f"at `{reader}(params, state)`" if reader else "at the parameters"


@functools.cache
def measured() -> dict[str, Any]:
    """The contents of the file: versions, and the facts about each technique."""
    content: dict[str, Any] = json.loads(files(__package__).joinpath(FILE).read_text("utf-8"))
    return content
