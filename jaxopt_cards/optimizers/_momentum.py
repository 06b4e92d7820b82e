"""The momentum that several optimizers end or begin with."""

from typing import Any

import optax

from jaxopt_cards._checks import check_number
from jaxopt_cards.transforms.momentum import trace


def momentum_stage(
    momentum: optax.ScalarOrSchedule | None, nesterov: bool, accumulator_dtype: Any
) -> optax.GradientTransformation:
    """The trace, or nothing; an error speaks of `momentum`, as the optimizers call its decay."""
    if momentum is None:
        return optax.identity()
    momentum = check_number("trace", "momentum", momentum, "[0, 1]", or_schedule=True)
    return trace(momentum, nesterov=nesterov, accumulator_dtype=accumulator_dtype)
