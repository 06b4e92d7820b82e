"""Checks of the arguments of a report, before anything is drawn."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.training.outcome import FitResult

Rows = dict[str, list[FitResult]]


def checked_rows(results: Any) -> Rows:
    """Results by the name of their row; raises if they have another type."""
    if results is None:
        return {}
    if isinstance(results, FitResult):
        return {"run": [results]}
    expected = "be a FitResult, a mapping from names to them or to sequences of them, or None"
    if not isinstance(results, Mapping) or not results:
        raise HyperparameterError("results", expected, results)
    rows = {
        str(name): [some] if isinstance(some, FitResult) else some for name, some in results.items()
    }
    for name, some in rows.items():
        is_sequence = isinstance(some, Sequence) and len(some) > 0
        if not is_sequence or not all(isinstance(result, FitResult) for result in some):
            expected = "be a FitResult or a sequence of them"
            raise HyperparameterError(f"results[{name!r}]", expected, some)
    return {name: list(some) for name, some in rows.items()}


def check_tables(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Raises unless each table has rows, and these have the same headings."""
    for caption, rows in tables.items():
        argument = f"tables[{caption!r}]"
        if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
            raise HyperparameterError(argument, "be a sequence of mappings", rows)
        if not rows or not rows[0]:
            raise HyperparameterError(argument, "have at least one row and one column", rows)
        if differing := [row for row in rows if list(row) != list(rows[0])]:
            expected = f"have the headings {list(rows[0])} in each row"
            raise HyperparameterError(argument, expected, list(differing[0]))
