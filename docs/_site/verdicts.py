"""Figures from the results of the examples, and whether a claim holds by them."""

import json
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent.parent / "results"
HOLDS, FAILS = "holds", "does not hold here"
MIXED, UNCLEAR = "holds in part", "no clear difference"
FAILING = " The claim does not hold here."  # with which the examples end a sentence
CLOSE = 0.05  # relative difference of means whose spread is not known
Figure = float | str | Sequence[float]
SIGNS: dict[str, Callable] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


def figure(reference: str) -> Figure:
    """The value at `file | row | column`, where a row is named by some of its texts, joined by &.

    Further parts are keys and indices; without a row of that name, the second part is a key.
    """
    name, *keys = (part.strip() for part in reference.split(" | "))
    found = _results(name)
    if "rows" in found and keys[0] not in found:
        (found, *others) = rows(f"{name} | {keys.pop(0)}")
        if others:
            raise LookupError(f"there are {1 + len(others)} rows for {reference}")
    for key in keys:
        found = found[int(key) if isinstance(found, list) else key]
    return found


def rows(reference: str) -> list[dict]:
    """The rows of `file | text & text` that have all texts, or else texts that begin with them."""
    name, _, texts = reference.partition(" | ")
    wanted = [text.strip() for text in texts.split(" & ")]
    having = [
        (row, [value for value in row.values() if isinstance(value, str)])
        for row in _results(name)["rows"]
    ]
    equal = [row for row, values in having if set(wanted) <= set(values)]
    similar = [
        row
        for row, values in having
        if all(any(value.startswith(text) for value in values) for text in wanted)
    ]
    if not (equal or similar):
        raise LookupError(f"there is no row {reference}")
    return equal or similar


def shown(value: Figure) -> str:
    """Mean and deviation of several seeds; a number with three digits, from 10 on with four."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        deviation = np.std(value, ddof=1) if len(value) > 1 else 0.0
        return f"{np.mean(value):.2f} ± {deviation:.2f}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 10 else f"{value:.3g}"


def verdict(holds: str, figures: Mapping[str, Figure]) -> str:
    """Whether comparisons such as `a > b and a > 2*c > 0.5` hold for the figures.

    Means of seeds differ if they are further apart than their standard deviations, other numbers
    if they are further apart than five percent.
    """
    outcomes = {_compared(comparison, figures) for comparison in holds.split(" and ")}
    if len(outcomes) == 1:
        return outcomes.pop()
    return MIXED if HOLDS in outcomes else FAILS


def told(reference: str) -> tuple[str, str]:
    """Verdict and sentences of rows that have them, in their columns `holds` and `says`."""
    found = rows(reference)
    holding = sum(row["holds"] == "yes" for row in found)
    outcome = HOLDS if holding == len(found) else MIXED if holding else FAILS
    if outcome == FAILS:
        return outcome, " ".join(row["says"].removesuffix(FAILING) for row in found)
    return outcome, " ".join(row["says"] for row in found)


@cache
def _results(name: str) -> dict:
    path = RESULTS / name
    return json.loads((path / "results.json" if path.is_dir() else path).read_text())


def _compared(comparison: str, figures: Mapping[str, Figure]) -> str:
    """Whether a comparison holds; one such as `a < b < c` must hold throughout."""
    first, *rest = comparison.split()
    outcomes, left = [], _operand(first, figures)
    for sign, text in zip(rest[::2], rest[1::2], strict=True):
        right = _operand(text, figures)
        outcomes.append(_outcome(left, sign, right))
        left = right
    if False in outcomes:
        return FAILS
    return UNCLEAR if None in outcomes else HOLDS


def _outcome(left: np.ndarray, sign: str, right: np.ndarray) -> bool | None:
    """Whether a comparison holds; `None` if `<` or `>` is too close to say."""
    means = float(np.mean(left)), float(np.mean(right))
    if max(left.size, right.size) > 1:
        close = abs(means[0] - means[1]) <= np.hypot(np.std(left), np.std(right))
    else:
        close = bool(np.isclose(*means, rtol=CLOSE, atol=0))
    if close:
        return None if sign in "<>" else True
    return SIGNS[sign](*means)


def _operand(text: str, figures: Mapping[str, Figure]) -> np.ndarray:
    """A number, a figure by name, or a multiple of one."""
    factor, _, name = text.rpartition("*")
    value = figures[name] if name in figures else float(name)
    return float(factor or 1) * np.atleast_1d(_number(value))


def _number(value: Figure) -> np.ndarray:
    """The numbers of a figure; of a text such as "10.5 (1 failed)", the first one."""
    if isinstance(value, str):
        value = "inf" if value == "never" else re.match(r"-?[\d.]+(e-?\d+)?", value).group()
    return np.asarray(value, float)
