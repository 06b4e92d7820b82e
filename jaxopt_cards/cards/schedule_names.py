"""Schedules as the command line and the gallery show them."""

from collections.abc import Callable
from typing import Any

from jaxopt_cards.cards import spec_text

STEPS = 1000
# For who asks for a schedule by its name alone: arguments that show its shape in `STEPS` steps.
EXAMPLES = {
    "constant": "0.1",
    "cosine_decay_schedule": "0.1,1000",
    "cosine_onecycle_schedule": "1000,0.1",
    "exponential_decay": "0.1,300,0.1",
    "join_schedules": "[linear_schedule(0.0,0.1,200),exponential_decay(0.1,300,0.1)],[200]",
    "linear_onecycle_schedule": "1000,0.1",
    "linear_schedule": "0.1,0.0,1000",
    "momentum_warmup": "0.5,0.9,500",
    "piecewise_constant": "[300,700],[0.1,0.03,0.01]",
    "power_decay": "0.1,100",
    "warmup_constant_schedule": "0.0,0.1,200",
    "warmup_cosine_decay_schedule": "0.0,0.1,200,1000",
}


def completed(text: str) -> str:
    """The schedule as written; a name alone gets the arguments of `EXAMPLES`."""
    name = text.strip()
    return f"{name}:{EXAMPLES[name]}" if name in EXAMPLES else name


def built(texts: list[str]) -> dict[str, Callable[[Any], Any]]:
    """The schedules by what was written, in full."""
    return {full: spec_text.schedule(full) for full in map(completed, texts)}
