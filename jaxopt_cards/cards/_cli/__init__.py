"""The command line `jaxopt-cards`: one module a command; what is heavy is imported inside of it."""

import sys


def main() -> None:
    """Runs the command line; a user's mistake ends it with one sentence and status 2."""
    try:
        import typer
    except ModuleNotFoundError:
        sys.exit("jaxopt-cards: needs typer: pip install 'jaxopt_cards[cards]'")
    app = typer.Typer(
        name="jaxopt-cards",
        help="The techniques of training deep networks: each says what it computes, and shows it.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    try:
        app()
    except ValueError as error:  # of a name or a number that the user gave
        sys.exit(f"jaxopt-cards: {error}")
