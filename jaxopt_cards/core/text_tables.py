"""Tables of text, laid out by rich, which Flax requires: for the command line and for `print`."""

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

# Imported where it is used: most of the package never prints a table.
if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 80


def grid(rows: Iterable[Iterable[Any]], *columns: dict[str, Any]) -> "Table":
    """A table of plain columns, without box-drawing characters, for use in pipes."""
    from rich.table import Table

    table = Table(box=None, show_header=any("header" in each for each in columns), pad_edge=False)
    table.padding = (0, 2, 0, 0)
    for column in columns:
        table.add_column(**column)
    for row in rows:
        table.add_row(*row)
    return table


def printed(rows: Iterable[Iterable[str]], *columns: dict[str, Any], width: int = WIDTH) -> str:
    """The lines of a grid, without colours; cells may hold brackets, which are no markup here."""
    from rich.console import Console
    from rich.text import Text

    table = grid((map(Text, row) for row in rows), *columns)
    stream = io.StringIO()
    # In a notebook rich would show the table there, in place of writing it to the stream.
    Console(file=stream, width=width, color_system=None, force_jupyter=False).print(table)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())
