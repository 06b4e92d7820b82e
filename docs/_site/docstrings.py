"""Docstrings as pages: advice below the summary, all symbols and arguments on the same page."""

import inspect
import re
import textwrap

from sphinx.application import Sphinx

from jaxopt_cards import cards

ADVICE = re.compile(r"^(Use when|Avoid when): (.*(?:\n(?!Avoid when)\S.*)*)\n?", re.MULTILINE)


def process(app: Sphinx, what: str, name: str, thing, options, lines: list[str]) -> None:
    """Called for each docstring, before its sections are read."""
    card = cards.catalogue().get(name.rpartition(".")[2])
    if card is not None and f"{card.module}.{card.name}" == name:
        text = written(card)
    else:
        text = advised("\n".join(lines))
    # A word in backquotes leads to what has that name; an argument's name is only that.
    try:
        arguments = "|".join(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        arguments = ""
    if arguments:
        text = re.sub(rf"(?<![`:])`({arguments})`(?!`)", r"``\1``", text)
    lines[:] = text.split("\n")


def advised(text: str) -> str:
    """The docstring with its advice below the summary."""
    advice = "".join(f"**{title}** {words}\n\n" for title, words in ADVICE.findall(text))
    summary, gap, rest = ADVICE.sub("", text).partition("\n\n")
    return f"{summary}\n\n{advice}{rest}" if advice else f"{summary}{gap}{rest}"


def written(card: cards.Card) -> str:
    """A card as a docstring."""
    sections = {
        "Equation": equations(card),
        "Args": "\n".join(f"{each.name}: {indented(each.text)}" for each in card.arguments),
        "Returns": card.returns,
        "State": card.state,
        "Raises": "\n".join(f"{error}: {when}" for error, when in card.raises),
        "References": " ".join(card.references),
        "Example": card.example,
    }
    return "\n\n".join(
        [
            card.summary,
            f"**Use when** {card.use_when}",
            f"**Avoid when** {card.avoid_when}",
            card.description,
            *(
                f"{title}:\n{textwrap.indent(text, '    ')}"
                for title, text in sections.items()
                if text
            ),
        ]
    )


def indented(text: str) -> str:
    """The text with its further paragraphs below an argument's name."""
    return textwrap.indent(text, "    ").lstrip()


def equations(card: cards.Card) -> str:
    """The equation of a card, those of the techniques that it builds on, and all symbols."""
    parts = []
    for each in (card, *map(cards.card, card.builds_on)):
        math = f".. math::\n{textwrap.indent(each.equation, '    ')}" if each.equation else ""
        parts += [f"`{each.name}` computes" if each is not card else "", math, each.symbols]
    return "\n\n".join(part for part in parts if part)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
