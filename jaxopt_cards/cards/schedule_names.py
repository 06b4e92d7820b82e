"""Schedules with example arguments, for the command line and the gallery."""

from collections.abc import Callable
from typing import Any

from jaxopt_cards.cards import spec_text

STEPS = 1000
# Arguments that show the shape of a schedule in `STEPS` steps, for a name without arguments.
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
    """The text of a schedule; a name without arguments gets those of `EXAMPLES`."""
    name = text.strip()
    return f"{name}:{EXAMPLES[name]}" if name in EXAMPLES else name


def built(texts: list[str]) -> dict[str, Callable[[Any], Any]]:
    """The schedules by their complete texts."""
    return {full: spec_text.schedule(full) for full in map(completed, texts)}
