"""Times two ways to do the same in one process, in turns, so that both meet the same machine."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Comparison:
    """Seconds of both, run by run."""

    what: str
    baseline: str
    ours: np.ndarray  # shape (rounds,), seconds
    theirs: np.ndarray

    @property
    def ratios(self) -> np.ndarray:
        """How many times faster ours is, round by round."""
        return self.theirs / self.ours


def compare(
    what: str,
    baseline: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    *,
    rounds: int,
    calls: int = 1,
    uncounted: int = 1,
) -> Comparison:
    """Runs both in turns, `calls` times in each round; the first, `uncounted` rounds warm up."""
    turns = range(uncounted + rounds)
    seconds = np.array([[_timed(run, calls) for run in (ours, theirs)] for _ in turns])
    return Comparison(what, baseline, *(seconds[uncounted:] / calls).T)


def _timed(run: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        result = run()
    jax.block_until_ready(result)
    return time.perf_counter() - start
