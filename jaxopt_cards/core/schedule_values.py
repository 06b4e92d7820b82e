"""The values of a schedule, for tables and pictures."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def values_of(schedule: Callable[[Any], Any], steps: np.ndarray) -> np.ndarray:
    """The values at these steps."""
    # Optax's schedules mix ints and floats, which strict dtype promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        return np.asarray(jax.vmap(schedule)(jnp.asarray(steps)), np.float64)
