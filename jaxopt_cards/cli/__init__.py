"""The command line `jaxopt-cards`: one module per command, with heavy imports inside functions."""

import sys
from importlib import import_module, metadata

from jaxopt_cards.core.errors import MissingPackageError

# Each is a function in a module of its name.
COMMANDS = ("listing", "show", "compare", "race", "schedule", "doctor", "fit")


def main() -> None:
    """Runs the command line.

    Wrong arguments end it with one sentence and status 2, and failures, such as a full disk or a
    loss that overflows, with one sentence and status 1.
    """
    if sys.stdout is None:
        _end("the output is closed", 1)
    # Characters that a terminal cannot show, such as Greek letters, become question marks.
    for stream in filter(None, (sys.stdout, sys.stderr)):  # a closed one is `None`
        stream.reconfigure(errors="replace")
    try:
        app()()
    except (ValueError, MissingPackageError) as error:  # a wrong argument, or a missing extra
        _end(str(error))
    except (OSError, FloatingPointError) as error:
        _end(str(error), 1)


def app():
    """The commands, for `main` and for tests."""
    from typing import Annotated

    import typer

    commands = typer.Typer(
        name="jaxopt-cards",
        help="Techniques for training deep networks: what they compute, and how they behave.",
        epilog="For example: jaxopt-cards show adabound",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if sys.stdout.isatty() else None,  # no boxes in a pipe
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @commands.callback()
    def options(
        version: Annotated[
            bool,
            typer.Option("--version", callback=_show_version, is_eager=True, help="The version."),
        ] = False,
    ) -> None: ...

    for name in COMMANDS:
        function = getattr(import_module(f"{__name__}.{name}"), name)
        commands.command("list" if name == "listing" else name)(function)
    return commands


def _show_version(wanted: bool) -> None:
    if wanted:
        print(metadata.version("jaxopt_cards"))
        sys.exit(0)


def _end(message: str, status: int = 2) -> None:
    from jaxopt_cards.core.checks import escaped

    print(f"jaxopt-cards: {escaped(message, None, lines=True)}", file=sys.stderr)
    sys.exit(status)
