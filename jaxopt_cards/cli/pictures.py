"""Options and checks of the commands that write pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaxopt_cards.core.errors import named_as
from jaxopt_cards.core.optional import optional

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Output = Annotated[Path | None, typer.Option(help="Write a picture: .png, .svg or .pdf.")]
Dark = Annotated[bool, typer.Option("--dark", help="Light lines on a dark background.")]
ENDINGS = (".png", ".svg", ".pdf")


@contextmanager
def drawn(output: Path, dark: bool, size: tuple[float, float]) -> "Iterator[Figure]":
    """A figure to draw into, which is then written."""
    from matplotlib.figure import Figure

    from jaxopt_cards import pictures

    with pictures.style(dark=dark):
        figure = Figure(figsize=size)
        yield figure
        figure.savefig(output, dpi=150)


def check_output(output: Path, *more: str) -> None:
    """Raises before anything is computed if the picture cannot be written."""
    endings = (*ENDINGS, *more)
    if output.suffix.lower() not in endings:
        raise ValueError(f"--output must end with one of {', '.join(endings)}, got {str(output)!r}")
    if output.is_dir():
        raise ValueError(f"--output must be a file, got the folder {str(output)!r}")
    if not output.absolute().parent.is_dir():
        raise ValueError(f"--output: the folder {str(output.parent)!r} does not exist")
    with named_as("--output"):
        optional("matplotlib")
