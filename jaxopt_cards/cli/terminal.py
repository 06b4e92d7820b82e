"""Output of the commands: colours in a terminal, plain text in a pipe."""

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxopt_cards.cards.index import entries
from jaxopt_cards.core.text_tables import WIDTH

# Rich is imported where it is used: `list` in a pipe does not need it.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from jaxopt_cards.cards.reading import Card

BatchNorm = Annotated[bool, typer.Option("--batch-norm", help="Normalise each layer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]


def completed(incomplete: str) -> list[tuple[str, str]]:
    """Completions for shells: names with this beginning, and their kinds."""
    known = entries().items()
    return [(name, entry.kind) for name, entry in known if name.startswith(incomplete)]


@contextmanager
def printing() -> "Iterator[Console]":
    """A console; into a pipe, it prints everything at the end, without trailing blanks."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    if console.is_terminal:
        yield console
        return
    with console.capture() as capture:
        yield console
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def tell(line: str) -> None:
    """Prints a line, with unprintable characters escaped, as names of files may have them."""
    from jaxopt_cards.core.checks import escaped

    typer.echo(escaped(line))


def styled(text: str) -> "Text":
    """Text of a docstring with readable formulas and coloured code."""
    from rich.text import Text

    from jaxopt_cards.cards.latex import inline

    parts = inline(text).split("`")
    words = Text()
    for index, part in enumerate(parts):
        words.append(part, style="cyan" if index % 2 else "")
    return words


def heading(console: "Console", text: str) -> None:
    """Prints the title of a section."""
    console.print()
    console.print(text, style="bold", markup=False)


def record(card: "Card") -> dict[str, Any]:
    """A card as JSON values."""
    fields = {field.name: getattr(card, field.name) for field in dataclasses.fields(card)}
    return fields | {
        "arguments": [argument._asdict() for argument in card.arguments],
        "raises": [{"exception": name, "when": text} for name, text in card.raises],
        "facts": card.facts and card.facts._asdict(),
    }


def print_json(content: Any) -> None:
    """Prints JSON, with characters that are not ASCII unescaped.

    Numbers that are not finite are null, since JSON lacks them.
    """
    typer.echo(json.dumps(_finite(content), indent=1, ensure_ascii=False))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return list(map(_finite, content))
    return None if isinstance(content, float) and not math.isfinite(content) else content
