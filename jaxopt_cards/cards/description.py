"""A description of a transformation, for the terminal, for notebooks and for JSON."""

import html
import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxopt_cards.cards.values import is_number, shown

WIDTH = 80


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
        rows = [("stage", "hyperparameters", "state", "leaves")]
        rows += [self._cells(stage) for stage in self.stages]
        if self.leaves is not None:
            rows.append(("in all", "", _bytes(self.state_bytes), str(len(self.leaves))))
        return "\n".join([*_table(rows), *self._notes()])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """For notebooks."""
        head = "".join(
            f"<th>{name}</th>" for name in ("stage", "hyperparameters", "state", "leaves")
        )
        lines = []
        for stage in self.stages:
            name, given, state, leaves = (html.escape(cell) for cell in self._cells(stage))
            name = "&emsp;" * stage.depth + name.strip()
            cells = "".join(f"<td>{cell}</td>" for cell in (name, given, state, leaves))
            lines.append(f"<tr>{cells}</tr>")
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self._notes())
        return f"<table><tr>{head}</tr>{''.join(lines)}</table>{notes}"

    def _cells(self, stage: DescribedStage) -> tuple[str, str, str, str]:
        label = f"{stage.label}: " if stage.label else ""
        given = [f"{key}={shown(value)}" for key, value in stage.hyperparameters.items()]
        given += [f"{name}=?" for name in stage.not_found]
        count = "" if stage.leaves is None else str(len(stage.leaves))
        name = "  " * stage.depth + label + stage.name
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
        wrapped = [textwrap.wrap(note, WIDTH, subsequent_indent="  ") for note in notes]
        return [line for lines in wrapped for line in lines]


def _plain(value: Any) -> Any:
    """The value, or its text if it is not a JSON value."""
    value = value.item() if is_number(value) else value
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, bool | int | float | str | None) else shown(value)


def _bytes(number: int | None) -> str:
    return "" if number is None else f"{number:,} B"


def _table(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    """Rows in columns: the second is wrapped, the last two are right-aligned."""
    name, _, state, leaves = (max(map(len, column)) for column in zip(*rows, strict=True))
    name = min(name, 36)
    room = WIDTH - name - state - leaves - 6
    lines: list[str] = []
    for cells in rows:
        names = textwrap.wrap(cells[0], name, subsequent_indent="    ", drop_whitespace=False)
        # A line may also end after a bracket.
        texts = textwrap.wrap(cells[1].replace("(", "(\0 "), room) or [""]
        texts = [text.replace("\0 ", "").rstrip("\0") for text in texts]
        for index in range(max(len(names), len(texts))):
            first = names[index] if index < len(names) else ""
            text = texts[index] if index < len(texts) else ""
            last = cells[2:] if index == 0 else ("", "")
            line = f"{first:{name}}  {text:{room}}  {last[0]:>{state}}  {last[1]:>{leaves}}"
            lines.append(line.rstrip())
    return lines
