"""Cards: the descriptions of the public techniques, read from the source."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from docstring_parser import Docstring
from docstring_parser.google import GoogleParser, Section, SectionType

from jaxopt_cards.cards.facts import Facts, facts
from jaxopt_cards.cards.index import PACKAGE, YOUR_OWN, Entry, entries, entry, entry_of
from jaxopt_cards.cards.signature import declared, parameters, returned, signature
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError

_ONE_LINERS = ("Use when", "Avoid when")
_ONE_LINE = re.compile(rf"^({'|'.join(_ONE_LINERS)}): (.*)$", re.MULTILINE)
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
_AS_IN = re.compile(r"[Aa]s in `(\w+)`[.,;]?\s*")
# The type and range, where the docstring has them.
_TYPED = re.compile(r"(?:`None`, or )?(?:(?:float|number|int) in|bool)\b")
_IN_RANGE = re.compile(r"(?:float|int) in [\[(]")
# Between one reference and the next, which begins with "Author, Author et al. (1999), ".
_NEXT_REFERENCE = re.compile(r"(?<=[.?\"]) (?=[^.()?]+?(?: et al\.)? \(\d{4}\), )")


class Argument(NamedTuple):
    """An argument of a technique.

    Attributes:
        name: with two stars if it takes any number of keyword arguments.
        default: as in the source; `None` if there is none.
        text: type, range and meaning.
    """

    name: str
    default: str | None
    text: str


@dataclasses.dataclass(frozen=True)
class Card:
    r"""The description of a public technique.

    Texts are those of the docstring, in reStructuredText, with each paragraph on one line.

    Attributes:
        name: the technique's.
        kind: "optimizer", "transformation", "regulariser", "schedule", "selection", "layer",
            "training", "transfer" or "data".
        family: its heading in the API, such as "Gradient clipping"; "Your own" for your functions.
        module: the module to import it from.
        signature: the call with its defaults.
        summary: what it does, in one sentence.
        description: what it is for.
        equation: LaTeX, as inside of `align`; may be empty.
        symbols: the meaning of the symbols of the equation; may be empty.
        arguments: one `Argument` each. The text of an argument that is passed on to another
            technique is that of the other.
        returns: what it returns; if the docstring does not say, the annotation.
        state: the arrays that it keeps; empty if unknown.
        raises: pairs of an exception and when it is raised.
        references: authors, year and title of each work; last, the section of Géron's book, if any.
        use_when: when to use it.
        avoid_when: when not to use it.
        example: a doctest.
        facts: measurements of a transformation or optimizer, `Facts`; `None` for others.
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
        """The techniques whose symbols the equation uses, and those that these use."""
        found: list[str] = []
        for name in _OF_ANOTHER.findall(self.symbols):
            if name in entries():
                found += [name, *_card(name).builds_on]
        return tuple(dict.fromkeys(found))


@declare
def card(thing: str | Callable[..., Any]) -> Card:
    r"""The card of a public technique: its description and its measurements.

    Read from the source of the package. For a name, neither JAX nor the technique is imported. A
    function of your own has a card, too, if its docstring has the sections `Equation:`, `Args:`,
    `Use when:` and `Avoid when:`.

    Args:
        thing: the technique, or its name, such as "adam" or "jaxopt_cards.layers.Dropout".

    Returns:
        A `Card`.

    Raises:
        ValueError: not a technique of this package; the message lists similar names; or the
            docstring of your function lacks a section.

    References:
        Margaret Mitchell et al. (2019), Model Cards for Model Reporting.

    Use when: a program needs the text of a docstring; in a terminal, use `jaxopt-cards show`.
    Avoid when: it is a function of Optax: these have no cards.

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

    Read from the source of the package, without importing JAX.

    Returns:
        A mapping from names to cards, family by family.

    Raises:
        ValueError: a docstring that cannot be parsed; tests check that there is none.

    References:
        Margaret Mitchell et al. (2019), Model Cards for Model Reporting.

    Use when: you make a table or a page of all techniques.
    Avoid when: you need a single card; `card` reads only that one.

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
    """Parses the docstring; missing sections are empty."""
    # One-line sections in the form of the others, with the text below the title.
    docstring = _ONE_LINE.sub(r"\1:\n    \2", known.docstring)
    parsed = GoogleParser(_SECTIONS).parse(docstring)
    texts = {m.args[0]: _flowing(m.description) for m in parsed.meta if len(m.args) == 1}
    blocks = {m.args[0]: m.description or "" for m in parsed.meta if len(m.args) == 1}
    latex, symbols = _equation(blocks.get("Equation", ""))
    measured = None if known.family == YOUR_OWN else facts(known.name)
    arguments = tuple(_arguments(known, parsed))
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
        arguments=arguments,
        returns=texts.get("Returns") or _returns(known, measured),
        state=_state(texts.get("State", ""), measured),
        raises=_raises(parsed, arguments if known.family != YOUR_OWN else (), measured),
        references=tuple(filter(None, _NEXT_REFERENCE.split(texts.get("References", "")))),
        use_when=texts.get("Use when", ""),
        avoid_when=texts.get("Avoid when", ""),
        example=inspect.cleandoc(blocks.get("Example", "")),
        facts=measured,
    )


def _arguments(known: Entry, parsed: Docstring) -> Iterator[Argument]:
    """The arguments, each with its declared range and its text in the docstring."""
    described = {
        name: _flowing(meta.description)
        for meta in parsed.meta
        if meta.args[0] == "param"
        for name in meta.args[1].split(", ")
    }
    ranges = declared(known)
    listed = {name: default for name, default, _ in parameters(known)}
    # What is gathered in `**settings` is described under its own name.
    named = {name.lstrip("*") for name in listed}
    if gathered := [name for name in described if name not in named]:
        listed = {name: default for name, default in listed.items() if name[:2] != "**"}
    for argument, default in (listed | dict.fromkeys(gathered, "...")).items():
        name = argument.lstrip("*")
        text = described.get(name, "")
        if borrowed := _borrowed_from(text):
            words = [each.text for each in _card(borrowed).arguments if each.name == name]
            text = _followed_by(words[0], text) if words else text
        elif name in ranges and not _TYPED.match(text):
            text = f"{ranges[name]}; {text}"
        yield Argument(argument, default, text)


def _borrowed_from(text: str) -> str | None:
    """The technique that a text refers to, as in "as in `scale_by_adam`."."""
    found = _AS_IN.match(text)
    return found[1] if found and found[1] in entries() else None


def _followed_by(words: str, text: str) -> str:
    """The words of another technique, and what the text adds to the reference."""
    more = _AS_IN.sub("", text, count=1)
    return f"{words} {more[:1].upper()}{more[1:]}".strip()


def _returns(known: Entry, measured: Facts | None) -> str:
    """What the annotation says that a function returns."""
    made = returned(known)
    needs = " that needs the parameters" if measured and measured.needs_params else ""
    return f"{'An' if made[:1] in 'aeiou' else 'A'} `{made}`{needs}." if made else ""


def _state(text: str, measured: Facts | None) -> str:
    """The docstring's text on the state, or that the transformation was measured to keep none."""
    if borrowed := _borrowed_from(text):
        return _followed_by(_card(borrowed).state, text)
    return text or ("Keeps no state." if measured and measured.state_bytes == 0 else "")


def _raises(
    parsed: Docstring, arguments: tuple[Argument, ...], measured: Facts | None
) -> tuple[tuple[str, str], ...]:
    """The errors of the docstring; if it has none, those that follow from the declaration."""
    said = [(m.args[1], _flowing(m.description)) for m in parsed.meta if m.args[0] == "raises"]
    follows = [
        *(
            ["an argument outside its range"]
            if any(_IN_RANGE.match(each.text) for each in arguments)
            else []
        ),
        *(["(when updating) no parameters"] if measured and measured.needs_params else []),
    ]
    return tuple(said or ([("ValueError", f"{'; '.join(follows)}.")] if follows else []))


def _flowing(text: str | None) -> str:
    """Each paragraph on one line."""
    paragraphs = re.split(r"\n\s*\n", (text or "").strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _equation(section: str) -> tuple[str, str]:
    """LaTeX of a section, and the words about its symbols."""
    section = inspect.cleandoc(section)
    latex = "\n".join(inspect.cleandoc(found) for found in _MATH.findall(section))
    return latex, _flowing(_MATH.sub("", section))
