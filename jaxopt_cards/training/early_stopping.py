"""Early stopping for your own training loop."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import check_count, check_number
from jaxopt_cards.core.errors import named_as


class EarlyStoppingState(NamedTuple):
    """State of `EarlyStopping`."""

    best: jax.Array  # shape (), float32: the least value so far; infinite before the first
    waited: jax.Array  # shape (), int32: values since then; -1 before the first
    improved: jax.Array  # shape (), bool: whether the last value was the least
    stop: jax.Array  # shape (), bool: whether to stop


@dataclasses.dataclass(frozen=True)
class EarlyStopping:
    r"""Tells when a value has stopped falling, as a pure function of arrays.

    For your own loops, on the host or inside `lax.while_loop`; `fit` has `patience=`, in epochs, or
    in steps with `evaluate_every=`. Unlike Flax's it works under `jit`, and a value that is not
    finite is never the best.

    Equation:
        .. math:: \text{stop}_t = \Big[t - \arg\min_{s \le t} v_s \ge \text{patience}\Big]

    Args:
        patience: int in [1, inf); number of values without improvement before it stops.
        min_delta: float in [0, inf); the amount by which a value must fall to count.

    Returns:
        An object with `init()`, which returns a state, and `update(state, value)`, which returns
        the next one.

    State:
        `EarlyStoppingState`: `best`, `waited`, `improved`, `stop`, all of shape ().

    Raises:
        ValueError: a number outside its range.

    References:
        Lutz Prechelt (1998), Early Stopping – But When? Géron (2017), chapter
        11, exercise 8.

    Use when: you write the loop yourself.
    Avoid when: you use `fit`, which also keeps the best snapshot.

    Example:
        >>> from jaxopt_cards.training import EarlyStopping
        >>> stopping = EarlyStopping(patience=2)
        >>> state = stopping.init()
        >>> for loss in (1.0, 0.5, 0.7, 0.6, 0.4):
        ...     state = stopping.update(state, loss)
        ...     print(bool(state.improved), bool(state.stop))
        True False
        True False
        False False
        False True
        True True
    """

    patience: int
    min_delta: float = 0.0

    @named_as("EarlyStopping")
    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_count("patience", self.patience)
        check_number("min_delta", self.min_delta, "[0, inf)")

    def init(self) -> EarlyStoppingState:
        """The state before the first value."""
        no = jnp.zeros((), bool)
        # The first value counts as the best, even if it is NaN.
        return EarlyStoppingState(jnp.float32(jnp.inf), jnp.full((), -1, jnp.int32), no, no)

    def update(self, state: EarlyStoppingState, value: ArrayLike) -> EarlyStoppingState:
        """The state after one more value; `stop` stays true once it is."""
        value = jnp.asarray(value, jnp.float32)
        improved = (value < state.best - self.min_delta) & jnp.isfinite(value)
        waited = jnp.where(improved, 0, state.waited + 1)
        return EarlyStoppingState(
            jnp.where(improved, value, state.best),
            waited,
            improved,
            state.stop | (waited >= self.patience),
        )
