"""Options and checks of the commands that write pictures."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

Output = Annotated[Path | None, typer.Option(help="Write a picture: .png, .svg or .pdf.")]
Dark = Annotated[bool, typer.Option("--dark", help="Light lines on a dark background.")]
ENDINGS = (".png", ".svg", ".pdf")


def check_output(output: Path, *more: str) -> None:
    """Raises before anything is computed if the picture cannot be written."""
    endings = (*ENDINGS, *more)
    if output.suffix.lower() not in endings:
        raise ValueError(f"--output must end with one of {', '.join(endings)}, got {str(output)!r}")
    if output.is_dir():
        raise ValueError(f"--output must be a file, got the folder {str(output)!r}")
    if not output.absolute().parent.is_dir():
        raise ValueError(f"--output: the folder {str(output.parent)!r} does not exist")
    check_installed("matplotlib")


def check_installed(*modules: str) -> None:
    """Raises if a module that `--output` needs is not installed."""
    for module in modules:
        if find_spec(module) is None:
            raise ValueError(f"--output needs {module}: pip install 'jaxopt_cards[examples]'")
