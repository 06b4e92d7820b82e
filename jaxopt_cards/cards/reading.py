"""Cards: what a public technique says of itself, read from its text."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from docstring_parser.google import GoogleParser, Section, SectionType

from jaxopt_cards.cards.facts import Facts, facts
from jaxopt_cards.cards.index import PACKAGE, YOUR_OWN, Entry, entries, entry, entry_of
from jaxopt_cards.cards.signature import parameters, signature
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError

_ONE_LINERS = ("Use when", "Avoid when")
# What the docstring of a user's own function must have.
_NEEDED = ("Equation", "Args", *_ONE_LINERS)
_SECTIONS = [
    Section("Args", "param", SectionType.MULTIPLE),
    Section("Raises", "raises", SectionType.MULTIPLE),
    *(
        Section(title, title, SectionType.SINGULAR)
        for title in ("Equation", "Returns", "State", "References", *_ONE_LINERS, "Example")
    ),
]
_MATH = re.compile(r"^\.\. math::(.*?)(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
_OF_ANOTHER = re.compile(r"(?:as in|symbols of) `(\w+)`")
# Where one reference ends and "Author, Author et al. (1999), Title" or the chapter begins.
_NEXT_REFERENCE = re.compile(
    r"(?<=[.?\"]) (?=[^.()?]+?(?: et al\.)? \(\d{4}\), |Chapter 11, |chapter 11, )"
)


class Argument(NamedTuple):
    """An argument of a technique.

    Attributes:
        name: with two stars where it stands for any number of arguments by name.
        default: as in the source; `None` where there is none.
        text: type, range and meaning.
    """

    name: str
    default: str | None
    text: str


@dataclasses.dataclass(frozen=True)
class Card:
    r"""What a technique says of itself.

    Texts are those of the docstring, reStructuredText, with a paragraph on one line.

    Attributes:
        name: the technique's.
        kind: "optimizer", "transformation", "regulariser", "schedule", "selection", "layer",
            "training", "transfer" or "data".
        family: its heading in the API, such as "Gradient clipping"; "Your own" for your functions.
        module: whence to import it.
        signature: the call with its defaults.
        summary: what it does, in one sentence.
        description: what it is for.
        equation: LaTeX, as inside of `align`.
        symbols: what stands for what in the equation; may be empty.
        arguments: one `Argument` each.
        returns: what it returns.
        state: the arrays that it keeps.
        raises: pairs of exception and when.
        references: authors, year and title of each work; last, the place in the chapter, if any.
        use_when: in which case.
        avoid_when: in which not.
        example: a doctest.
        facts: what was measured of a transformation or optimizer, `Facts`; of others `None`.
    """

    name: str
    kind: str
    family: str
    module: str
    signature: str
    summary: str
    description: str
    equation: str
    symbols: str
    arguments: tuple[Argument, ...]
    returns: str
    state: str
    raises: tuple[tuple[str, str], ...]
    references: tuple[str, ...]
    use_when: str
    avoid_when: str
    example: str
    facts: Facts | None

    @property
    def builds_on(self) -> tuple[str, ...]:
        """The techniques whose symbols the equation uses."""
        named = _OF_ANOTHER.findall(self.symbols)
        return tuple(name for name in dict.fromkeys(named) if name in entries())


@declare
def card(thing: str | Callable[..., Any]) -> Card:
    r"""The card of a technique: what it says of itself, and what was measured of it.

    Read from the package's text; for a name neither JAX nor the technique is imported. A function
    of your own has a card, too, if its docstring has the sections `Equation:`, `Args:`, `Use when:`
    and `Avoid when:`.

    Equation:
        .. math:: \mathrm{card}(f) = \mathrm{parse}(\mathrm{text}(f)) \cup \mathrm{measured}(f)

    Args:
        thing: its name, such as "adam" or "jaxopt_cards.layers.Dropout", or the function or class.

    Returns:
        A `Card`.

    State:
        None.

    Raises:
        ValueError: no technique has this name (the message has the nearest names), or the
            docstring of your function lacks a section.

    References:
        Margaret Mitchell et al. (2019), Model Cards for Model Reporting.

    Use when: a program needs what a docstring says; people have `jaxopt-cards show`.
    Avoid when: it is one of Optax's own: these have no cards.

    Example:
        >>> from jaxopt_cards import cards
        >>> adam = cards.card("adam")
        >>> adam.summary
        "Adam: momentum, and each weight's step divided by its gradients' root mean square."
        >>> adam.arguments[1].name, adam.arguments[1].default, adam.facts.state_bytes
        ('b1', '0.9', 8.0)
    """
    if isinstance(thing, str):
        return _card(entry(thing).name)
    known = entries().get(getattr(thing, "__name__", ""))
    if known is None or getattr(thing, "__module__", None) != known.defined_in:
        return _users_card(thing)
    return _card(known.name)


@declare
def catalogue() -> Mapping[str, Card]:
    r"""The cards of all public techniques.

    Read from the package's text, without JAX.

    Equation:
        .. math:: C = \{(n, \mathrm{card}(n))\}

    Returns:
        From names to cards, family by family.

    State:
        None.

    Raises:
        ValueError: a docstring that cannot be read; tests see to it that none is.

    References:
        Margaret Mitchell et al. (2019), Model Cards for Model Reporting.

    Use when: you make a table or a page of all techniques.
    Avoid when: one of them is wanted; `card` reads no other.

    Example:
        >>> from jaxopt_cards import cards
        >>> [name for name, card in cards.catalogue().items() if card.kind == "schedule"]
        ['constant', 'exponential_decay', 'momentum_warmup', 'piecewise_constant', 'power_decay']
    """
    return MappingProxyType({name: _card(name) for name in entries()})


def _users_card(thing: Any) -> Card:
    """The card of a function that is not of this package."""
    refused = f"thing must be a technique of {PACKAGE}, got {thing!r}"
    if not inspect.isfunction(thing):
        raise NamedError(refused)
    docstring, takes_arguments = inspect.getdoc(thing) or "", inspect.signature(thing).parameters
    needed = [each for each in _NEEDED if each != "Args" or takes_arguments]
    found = re.findall(r"^([A-Z][a-z ]*):", docstring, re.MULTILINE)
    if missing := [f"{each}:" for each in needed if each not in found]:
        lacks = f"your function's docstring needs sections; it has no {', '.join(missing)}"
        raise NamedError(f"{refused}; for a card {lacks}")
    return _of_entry(entry_of(thing))


@functools.cache
def _card(name: str) -> Card:
    """The card of a technique of this package."""
    return _of_entry(entries()[name])


def _of_entry(known: Entry) -> Card:
    """Parses the docstring; the sections that are missing are empty."""
    parsed = GoogleParser(_SECTIONS).parse(_normalised(known.docstring))
    texts = {meta.args[0]: meta.description or "" for meta in parsed.meta if len(meta.args) == 1}
    described = {m.args[1]: _flowing(m.description) for m in parsed.meta if m.args[0] == "param"}
    latex, symbols = _equation(texts.get("Equation", ""))
    return Card(
        name=known.name,
        kind=known.kind,
        family=known.family,
        module=known.module,
        signature=signature(known),
        summary=_flowing(parsed.short_description),
        description=_flowing(parsed.long_description),
        equation=latex,
        symbols=symbols,
        arguments=tuple(
            Argument(argument, default, described.get(argument.lstrip("*"), ""))
            for argument, default, _ in parameters(known)
        ),
        returns=_flowing(texts.get("Returns")),
        state=_flowing(texts.get("State")),
        raises=tuple(
            (m.args[1], _flowing(m.description)) for m in parsed.meta if m.args[0] == "raises"
        ),
        references=_references(texts.get("References", "")),
        use_when=_flowing(texts.get("Use when")),
        avoid_when=_flowing(texts.get("Avoid when")),
        example=inspect.cleandoc(texts.get("Example", "")),
        facts=facts(known.name) if known.family != YOUR_OWN else None,
    )


def _normalised(docstring: str) -> str:
    """Sections of one line, as the parser knows them: the text below the title."""
    titles = "|".join(_ONE_LINERS)
    return re.sub(rf"^({titles}): (.*)$", r"\1:\n    \2", docstring, flags=re.MULTILINE)


def _flowing(text: str | None) -> str:
    """Each paragraph on one line."""
    paragraphs = re.split(r"\n\s*\n", (text or "").strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _equation(section: str) -> tuple[str, str]:
    """LaTeX of a section, and the words about its symbols."""
    section = inspect.cleandoc(section)
    latex = "\n".join(inspect.cleandoc(found) for found in _MATH.findall(section))
    return latex, _flowing(_MATH.sub("", section))


def _references(section: str) -> tuple[str, ...]:
    """One text for each work, and one for the place in the chapter."""
    text = _flowing(section)
    return tuple(_NEXT_REFERENCE.split(text)) if text else ()
