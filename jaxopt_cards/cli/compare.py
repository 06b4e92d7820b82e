"""`jaxopt-cards compare`: several techniques side by side."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaxopt_cards.cli.terminal import AsJson, completed, heading, print_json, printing, styled
from jaxopt_cards.core.text_tables import grid

if TYPE_CHECKING:
    from rich.console import Console

    from jaxopt_cards.cards.reading import Card

REQUIRED, MANY, ABSENT = "required", "any", "–"


def compare(
    names: Annotated[
        list[str], typer.Argument(help="Such as adam adabound.", autocompletion=completed)
    ],
    as_json: AsJson = False,
) -> None:
    """Compares techniques: their costs, the arguments that differ, and when to use which."""
    from jaxopt_cards.cards.reading import card

    cards = list({known.name: known for known in map(card, names)}.values())
    if len(cards) < 2:
        raise ValueError(f"compare: give two names or more, got {' '.join(names)!r}")
    defaults = _defaults(cards)
    if as_json:
        print_json({"techniques": [_record(each) for each in cards], "arguments": defaults})
        return
    with printing() as console:
        _print_texts(console, {each.name: each.summary for each in cards})
        _print_facts(console, cards)
        _print_arguments(console, cards, defaults)
        for title, field in {"Use when": "use_when", "Avoid when": "avoid_when"}.items():
            heading(console, title)
            _print_texts(console, {each.name: getattr(each, field) for each in cards})


def _defaults(cards: "list[Card]") -> dict[str, dict[str, str]]:
    """The defaults of each argument, by technique."""
    table: dict[str, dict[str, str]] = {}
    for card in cards:
        for argument in card.arguments:
            missing = MANY if argument.name.startswith("*") else REQUIRED
            default = missing if argument.default is None else argument.default
            table.setdefault(argument.name, {})[card.name] = default
    return table


def _record(card: "Card") -> dict[str, Any]:
    """The part of a card that is compared."""
    fields = ("name", "kind", "module", "summary", "use_when", "avoid_when")
    facts = card.facts and card.facts._asdict()
    return {name: getattr(card, name) for name in fields} | {"facts": facts}


def _print_facts(console: "Console", cards: "list[Card]") -> None:
    """One technique per line, so that any number of them fits."""
    if not any(card.facts for card in cards):
        return
    heading(console, "Measured for each float32 parameter and step")
    columns = [
        {"style": "cyan", "overflow": "fold"},
        *({"header": each, "justify": "right"} for each in ("state bytes", "passes", "operations")),
        *({"header": each} for each in ("needs params", "element-wise", "gradient at")),
    ]
    console.print(grid(map(_facts, cards), *columns))
    for card in cards:
        if card.facts and card.facts.settings:
            console.print(f"{card.name} was measured with {card.facts.settings}.", markup=False)


def _facts(card: "Card") -> list[str]:
    if card.facts is None:
        return [card.name, *[ABSENT] * 6]
    numbers = (card.facts.state_bytes, card.facts.passes, card.facts.operations)
    words = (card.facts.needs_params, card.facts.elementwise)
    told = ("yes" if each else "no" for each in words)
    return [card.name, *(f"{n:g}" for n in numbers), *told, card.facts.gradient_at or "params"]


def _print_arguments(
    console: "Console", cards: "list[Card]", defaults: dict[str, dict[str, str]]
) -> None:
    """The arguments that differ, with a column for each technique; the others in one line."""
    names = [card.name for card in cards]
    same = {
        argument: next(iter(values.values()))
        for argument, values in defaults.items()
        if len(values) == len(names) and len(set(values.values())) == 1
    }
    if len(same) < len(defaults):
        heading(console, "Arguments that differ")
        rows = (
            [argument, *(values.get(name, ABSENT) for name in names)]
            for argument, values in defaults.items()
            if argument not in same
        )
        columns = [{"overflow": "fold"}, *({"header": name, "overflow": "fold"} for name in names)]
        console.print(grid(rows, *columns))
    if same:
        heading(console, "Arguments that are the same")
        told = (
            name if text in (REQUIRED, MANY) else f"{name}={text}" for name, text in same.items()
        )
        console.print(", ".join(told), markup=False)


def _print_texts(console: "Console", texts: dict[str, str]) -> None:
    rows = ((name, styled(text)) for name, text in texts.items())
    console.print(grid(rows, {"style": "cyan", "no_wrap": True}, {}))
