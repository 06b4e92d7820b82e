"""`jaxopt-cards list`: all techniques, one per line."""

import sys
from enum import Enum
from itertools import groupby
from typing import Annotated

import typer

from jaxopt_cards.cards.index import KINDS, Entry, entries
from jaxopt_cards.cli.terminal import AsJson, heading, print_json, printing, styled
from jaxopt_cards.core.text_tables import grid

Kind = Enum("Kind", {kind: kind for kind in KINDS}, type=str)  # type: ignore[misc] # of a table


def listing(
    kind: Annotated[Kind | None, typer.Option(help="Only techniques of this kind.")] = None,
    as_json: AsJson = False,
) -> None:
    """Lists all techniques by kind, each with a one-line summary."""
    known = [each for each in entries().values() if kind is None or each.kind == kind.value]
    if as_json:
        print_json([_record(each) for each in known])
    elif sys.stdout.isatty():
        _print_table(known)
    else:
        for each in known:
            typer.echo(f"{each.name:<24} {each.kind:<15} {_summary(each)}")


def _summary(entry: Entry) -> str:
    return entry.docstring.partition("\n")[0]


def _record(entry: Entry) -> dict[str, str]:
    fields = ("name", "kind", "family", "module")
    return {name: getattr(entry, name) for name in fields} | {"summary": _summary(entry)}


def _print_table(known: list[Entry]) -> None:
    """Prints one table per family."""
    with printing() as console:
        width = max(len(entry.name) for entry in known)
        for family, members in groupby(known, key=lambda entry: entry.family):
            heading(console, family)
            rows = ((each.name, styled(_summary(each))) for each in members)
            console.print(grid(rows, {"style": "cyan", "no_wrap": True, "min_width": width}, {}))
