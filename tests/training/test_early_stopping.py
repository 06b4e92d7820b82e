"""Early stopping as a pure function: it stops when `fit` does, under jit and scan."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_cards.training import EarlyStopping
from jaxopt_cards.training.outcome import stops

VALUES = st.lists(
    st.floats(0, 1, width=32, allow_subnormal=False) | st.just(float("nan")),
    min_size=1,
    max_size=30,
)


@settings(max_examples=50, deadline=None)
@given(values=VALUES, patience=st.integers(1, 5))
def test_stops_when_the_least_value_is_so_long_ago(values, patience):
    stopping = EarlyStopping(patience)
    padded = jnp.array([*values, *[2.0] * (30 - len(values))])

    def step(state, value):
        state = stopping.update(state, value)
        return state, state

    _, states = jax.lax.scan(step, stopping.init(), padded)
    for index in range(len(values)):
        history = [[0.0, value] for value in np.float32(values[: index + 1])]
        fits = any(stops(history[:end], 1000, patience) for end in range(1, len(history) + 1))
        assert bool(states.stop[index]) == fits
        finite = [value for _, value in history if not np.isnan(value)]
        assert float(states.best[index]) == min(finite, default=np.inf)


def test_small_improvements_do_not_count():
    stopping = EarlyStopping(2, min_delta=0.1)
    state = stopping.init()
    for value in (1.0, 0.95, 0.91):
        state = stopping.update(state, value)
    assert bool(state.stop)
    assert float(state.best) == 1.0


def test_bad_arguments():
    with pytest.raises(ValueError, match="EarlyStopping: patience must be a whole number >= 1"):
        EarlyStopping(0)
    with pytest.raises(ValueError, match=r"min_delta must lie in \[0, inf\), got -1"):
        EarlyStopping(2, -1)
