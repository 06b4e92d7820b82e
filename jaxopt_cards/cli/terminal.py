"""What the commands that print cards share: a terminal gets colours, a pipe gets plain text."""

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxopt_cards.cards.index import entries
from jaxopt_cards.core.text_tables import WIDTH

# Rich and the rest are imported where they are used: `list` in a pipe needs none of them.
if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from jaxopt_cards.cards.reading import Card

BatchNorm = Annotated[bool, typer.Option("--batch-norm", help="Normalise each layer.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")]


def completed(incomplete: str) -> list[tuple[str, str]]:
    """For shells: the names that begin so, and what each kind of technique it is."""
    known = entries().items()
    return [(name, entry.kind) for name, entry in known if name.startswith(incomplete)]


@contextmanager
def printing() -> "Iterator[Console]":
    """A console; into a pipe its text goes in the end, without blanks at the ends of lines."""
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
    """Prints a line that has names of files, classes or columns in it, which may be anything."""
    from jaxopt_cards.core.checks import escaped

    typer.echo(escaped(line))


def styled(text: str) -> "Text":
    """Text of a docstring, its formulas readable and its code in a colour."""
    from rich.text import Text

    from jaxopt_cards.cards.latex import inline

    parts = inline(text).split("`")
    words = Text()
    for index, part in enumerate(parts):
        words.append(part, style="cyan" if index % 2 else "")
    return words


def heading(console: "Console", text: str) -> None:
    """The title of a part."""
    console.print()
    console.print(text, style="bold", markup=False)


def record(card: "Card") -> dict[str, Any]:
    """A card as JSON has it."""
    fields = {field.name: getattr(card, field.name) for field in dataclasses.fields(card)}
    return fields | {
        "arguments": [argument._asdict() for argument in card.arguments],
        "raises": [{"exception": name, "when": text} for name, text in card.raises],
        "facts": card.facts and card.facts._asdict(),
    }


def print_json(content: Any) -> None:
    """JSON with letters as they are; what is not finite, which JSON lacks, is null."""
    typer.echo(json.dumps(_finite(content), indent=1, ensure_ascii=False))


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return list(map(_finite, content))
    return None if isinstance(content, float) and not math.isfinite(content) else content
