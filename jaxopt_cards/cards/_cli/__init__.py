"""The command line `jaxopt-cards`: one module a command; what is heavy is imported inside of it."""

import sys
from importlib import import_module, util

# Each command and where its function is.
COMMANDS = {
    "list": "listing:listing",
    "show": "show:show",
    "compare": "compare:compare",
    "race": "race:race",
    "schedule": "schedule:schedule",
    "doctor": "doctor:doctor",
    "fit": "fit:fit",
}
_NEEDED = ("typer", "rich", "docstring_parser", "pylatexenc")


def main() -> None:
    """Runs the command line; a user's mistake ends it with one sentence and status 2."""
    missing = [name for name in _NEEDED if util.find_spec(name) is None]
    if missing:
        _end(f"needs {', '.join(missing)}: pip install 'jaxopt_cards[cards]'")
    # Of what a terminal cannot show, such as Greek letters in an old one, a question mark is left.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr] # they are text files
    try:
        app()()
    except ValueError as error:  # of a name or a number that the user gave
        _end(str(error))


def app():
    """The commands, for `main` and for tests."""
    import typer

    commands = typer.Typer(
        name="jaxopt-cards",
        help="The techniques of training deep networks: each says what it computes, and shows it.",
        epilog="For example: jaxopt-cards show adabound",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich" if sys.stdout.isatty() else None,  # no boxes in a pipe
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, place in COMMANDS.items():
        module, function = place.split(":")
        commands.command(name)(getattr(import_module(f"{__name__}.{module}"), function))
    return commands


def _end(message: str) -> None:
    print(f"jaxopt-cards: {message}", file=sys.stderr)
    sys.exit(2)
