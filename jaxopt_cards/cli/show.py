"""`jaxopt-cards show`: the card of one technique."""

import importlib
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxopt_cards.cli.terminal import (
    AsJson,
    completed,
    heading,
    print_json,
    printing,
    record,
    styled,
)
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.text_tables import grid

if TYPE_CHECKING:
    from rich.console import Console

    from jaxopt_cards.cards.facts import Facts
    from jaxopt_cards.cards.reading import Card


def show(
    name: Annotated[
        str,
        typer.Argument(
            help="A technique, such as adabound, or module:function for your own function.",
            autocompletion=completed,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Shows the card of a technique: equation, arguments, costs, and when to use it."""
    from jaxopt_cards.cards.reading import card

    shown = card(_users_function(name) if ":" in name else name)
    if as_json:
        print_json(record(shown))
        return
    with printing() as console:
        _print_title(console, shown)
        if shown.equation:
            _print_equation(console, shown, "Equation")
        for other in shown.builds_on:
            _print_equation(console, card(other), f"Equation of {other}")
        _print_arguments(console, shown)
        if shown.facts:
            _print_facts(console, shown.facts)
        _print_texts(console, shown)
        if shown.example:
            heading(console, "Example")
            console.print(shown.example, markup=False, soft_wrap=True)


def _users_function(name: str) -> Any:
    """A function outside this package; its module may be in the current folder."""
    module, _, function = name.partition(":")
    sys.path.insert(0, "")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, ValueError, AttributeError) as error:
        raise NamedError(f"name must be module:function, got {name!r}: {error}") from None


def _print_title(console: "Console", card: "Card") -> None:
    """Prints name, kind, summary, and when to use it."""
    from rich.panel import Panel

    title = f"{card.name} ({card.kind})"
    if console.is_terminal:
        console.print(Panel(styled(card.summary), title=title, title_align="left"))
    else:
        console.print(title, styled(card.summary), sep="\n\n")
    if card.description:
        console.print()
        console.print(styled(card.description))
    console.print()
    rows = [("Use when", styled(card.use_when)), ("Avoid when", styled(card.avoid_when))]
    console.print(grid(rows, {"style": "bold", "no_wrap": True}, {}))


def _print_equation(console: "Console", card: "Card", title: str) -> None:
    from jaxopt_cards.cards.latex import lines

    heading(console, title)
    for line in lines(card.equation, console.width - 4):
        console.print(f"    {line}", markup=False, soft_wrap=True)
    if card.symbols:
        console.print(styled(card.symbols))


def _print_arguments(console: "Console", card: "Card") -> None:
    heading(console, "Signature")
    console.print(f"from {card.module} import {card.name}", markup=False)
    console.print(card.signature, markup=False)
    if not card.arguments:
        return
    heading(console, "Arguments")
    rows = ((argument.name, styled(argument.text)) for argument in card.arguments)
    console.print(grid(rows, {"style": "cyan", "max_width": 26, "overflow": "fold"}, {}))


def _print_facts(console: "Console", facts: "Facts") -> None:
    from jaxopt_cards.cards.facts import at

    heading(console, "Measured" + (f", with {facts.settings}" if facts.settings else ""))
    texts = {
        "state": f"{facts.state_bytes:g} bytes for each float32 parameter",
        "a step": f"reads or writes {facts.passes:g} arrays like the parameters, and computes "
        f"{facts.operations:g} operations for each",
        "parameters": "needed in `update`" if facts.needs_params else "not needed in `update`",
        "element-wise": "yes" if facts.elementwise else "no: elements depend on each other",
        "gradient": at(facts.gradient_at),
        "evaluated": at(facts.evaluated_at),
        "traced": ", ".join(f"`{each}`" for each in facts.traced) or "no argument",
    }
    rows = ((label, styled(text)) for label, text in texts.items())
    console.print(grid(rows, {"no_wrap": True}, {}))


def _print_texts(console: "Console", card: "Card") -> None:
    """Prints the sections that are plain text."""
    for title, texts in {
        "Returns": [card.returns],
        "State": [card.state] if card.state else [],
        "Raises": [f"{name}: {text}" for name, text in card.raises],
        "References": list(card.references),
    }.items():
        if any(texts):
            heading(console, title)
        for text in filter(None, texts):
            console.print(styled(text))
