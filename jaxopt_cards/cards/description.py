"""A description of a transformation, for the terminal, for notebooks and for JSON."""

import math
import textwrap
from typing import Any, NamedTuple

from jaxopt_cards.cards.values import is_number, shown
from jaxopt_cards.core.text_tables import WIDTH, printed
from jaxopt_cards.reports.page import paragraph, table

_COLUMNS: tuple[dict[str, Any], ...] = (
    {"header": "stage", "max_width": 36, "overflow": "fold"},
    {"header": "hyperparameters", "overflow": "fold"},
    {"header": "state", "justify": "right", "no_wrap": True},
    {"header": "leaves", "justify": "right", "no_wrap": True},
)


class DescribedStage(NamedTuple):
    """A stage of a chain."""

    depth: int  # 0 for stages of the chain, 1 for those inside them, and so on
    label: str  # the name in a named chain, or the label of a partition; often empty
    name: str  # the function that made it
    hyperparameters: dict[str, Any]  # numbers, and functions as calls
    state_bytes: int | None  # without stages inside it; None without parameters
    leaves: list[str] | None  # paths of the parameters it acts on; None without parameters
    not_found: list[str]  # arguments that are not in its closures


class Description:
    """The stages of a transformation in order; prints as a table."""

    def __init__(self, stages: list[DescribedStage], leaves: list[str] | None):
        """Keeps the stages, and the paths of all parameters."""
        self.stages, self.leaves = stages, leaves

    @property
    def state_bytes(self) -> int | None:
        """Bytes of the whole state; `None` if no parameters were given."""
        if self.leaves is None:
            return None
        return sum(stage.state_bytes or 0 for stage in self.stages)

    def rows(self) -> list[dict[str, Any]]:
        """The stages as dictionaries of JSON values."""
        rows = [stage._asdict() for stage in self.stages]
        for row in rows:
            given = row["hyperparameters"]
            row["hyperparameters"] = {key: _plain(value) for key, value in given.items()}
        return rows

    def __str__(self) -> str:
        """A table of at most 80 columns, with notes on leaves that stages leave out."""
        rows = [self._cells(stage) for stage in self.stages]
        if self.leaves is not None:
            rows.append(("in all", "", _bytes(self.state_bytes), str(len(self.leaves))))
        notes = [textwrap.wrap(note, WIDTH, subsequent_indent="  ") for note in self._notes()]
        return "\n".join([printed(rows, *_COLUMNS), *(line for lines in notes for line in lines)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """For notebooks."""
        headings = [column["header"] for column in _COLUMNS]
        rows = [dict(zip(headings, self._cells(stage), strict=True)) for stage in self.stages]
        return table("Stages in order", rows) + "".join(map(paragraph, self._notes()))

    def _cells(self, stage: DescribedStage) -> tuple[str, str, str, str]:
        label = f"{stage.label}: " if stage.label else ""
        given = [f"{key}={shown(value)}" for key, value in stage.hyperparameters.items()]
        given += [f"{name}=?" for name in stage.not_found]
        count = "" if stage.leaves is None else str(len(stage.leaves))
        name = "· " * stage.depth + label + stage.name
        return name, ", ".join(given), _bytes(stage.state_bytes), count

    def _notes(self) -> list[str]:
        """Notes on leaves that a stage leaves out or freezes, and on unknown arguments."""
        notes = []
        told = {-1: self.leaves}  # by depth, so that stages inside do not repeat a mask
        for number, stage in enumerate(self.stages, start=1):
            where = f"{stage.name} (row {number})"
            if stage.name == "set_to_zero" and stage.leaves:
                notes.append(f"{where} sets to zero: {', '.join(stage.leaves)}")
            elif stage.leaves not in (told[stage.depth - 1], told.get(stage.depth)):
                rest = [path for path in self.leaves or [] if path not in (stage.leaves or [])]
                notes.append(f"{where} leaves out: {', '.join(rest)}")
            told[stage.depth] = stage.leaves
        if any(stage.not_found for stage in self.stages):
            notes.append("?: the closures of this stage do not contain the argument")
        if self.leaves is None:
            notes.append("Pass the parameters, describe(tx, params), to see state and leaves.")
        return notes


def _plain(value: Any) -> Any:
    """The value, or its text if it is not a JSON value."""
    value = value.item() if is_number(value) else value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else shown(value)


def _bytes(number: int | None) -> str:
    return "" if number is None else f"{number:,} B"
