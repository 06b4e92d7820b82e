"""A page and a picture for each card, and the gallery of all, made before the site is built."""

import itertools
import re
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from sphinx.application import Sphinx

import jaxopt_cards
from jaxopt_cards import cards, pictures

SIZE = (4.8, 3.6)  # inches
DIRECTIVE = re.compile(r"^\.\. auto(?:function|class):: (\w+)\n(?:   :.*\n)*", re.MULTILINE)
MODULE = re.compile(r"^\.\. currentmodule:: (\S+)$", re.MULTILINE)


def write(app: Sphinx) -> None:
    """Writes all pages, and draws what is older than the package."""
    folder = Path(app.srcdir, "_generated", "cards")
    folder.mkdir(parents=True, exist_ok=True)
    directives = dict(_directives(Path(app.srcdir, "api.md").read_text()))
    examples = Path(app.srcdir, "_generated", "backreferences")
    for card in cards.catalogue().values():
        _draw(folder / f"{card.name}.png", lambda ax, card=card: cards.picture(ax, card))
        directive = directives[f"{card.module}.{card.name}"]
        _write(folder / f"{card.name}.md", _page(card, directive, examples))
    _write(folder / "index.md", _gallery())
    _draw(folder.parent / "race.png", _race)


def _race(ax: Axes) -> None:
    """The start page's picture: the chapter's momenta and Adam, each at its best rate."""
    runs = cards.race("rosenbrock", ["sgd", "momentum", "nesterov", "adam"])
    ways = {run.name: run.path for run in runs}
    pictures.paths(ax, cards.SURFACES["rosenbrock"], ways)


def _directives(api: str):
    """What the API says of each public name: `autofunction` or `autoclass`, with its options."""
    for block in re.findall(r"^```\{eval-rst\}\n(.*?)^```", api, re.DOTALL | re.MULTILINE):
        module = MODULE.search(block).group(1)
        for found in DIRECTIVE.finditer(block):
            yield f"{module}.{found.group(1)}", found.group()


def _page(card: cards.Card, directive: str, examples: Path) -> str:
    """Picture, docstring, facts, and examples that use it."""
    parts = [
        f"# {card.name}",
        f"![{card.summary}]({card.name}.png){{.card}}",
        f"```{{eval-rst}}\n.. currentmodule:: {card.module}\n\n{directive}```",
    ]
    parts += map(_equation, card.builds_on)
    if card.facts:
        parts.append(_facts(card.facts))
    used = examples / f"{card.module}.{card.name}.examples"
    if used.exists() and used.stat().st_size:
        gallery = f".. minigallery:: {card.module}.{card.name}"
        parts.append(f"## In the examples\n\n```{{eval-rst}}\n{gallery}\n```")
    return "\n\n".join(parts) + "\n"


def _equation(name: str) -> str:
    """The equation that a named optimizer takes from one of its parts."""
    part = cards.card(name)
    latex = textwrap.indent(part.equation, "    ")
    text = f".. currentmodule:: {part.module}\n\n.. math::\n{latex}\n\n{part.symbols}"
    return f"## Equation of [{name}]({name}.md)\n\n```{{eval-rst}}\n{text}\n```"


def _facts(facts: cards.Facts) -> str:
    """What was measured, as a table."""
    rows = {
        "state, bytes for each float32 parameter": f"{facts.state_bytes:.4g}",
        "arrays like the parameters that a step reads or writes": f"{facts.passes:.4g}",
        "operations for each parameter and step": f"{facts.operations:.4g}",
        "needs the parameters": "yes" if facts.needs_params else "no",
        "each element by itself": "yes" if facts.elementwise else "no",
        "may be traced, many values in one program": ", ".join(f"`{n}`" for n in facts.traced)
        or "–",
    }
    how = f"With `{facts.settings}`, compiled" if facts.settings else "Compiled"
    lines = [f"| {what} | {value} |" for what, value in rows.items()]
    table = "\n".join(["| | |", "|---|---|", *lines])
    return f"## Measured\n\n{how} for a CPU:\n\n{table}"


def _gallery() -> str:
    """All cards, family by family."""
    parts = ["# The cards", "What each technique computes, and when to use it: a page for each."]
    for family, group in itertools.groupby(cards.catalogue().values(), lambda card: card.family):
        parts += [f"## {family}", "\n".join(["{.cards}", *map(_thumbnail, group)])]
    names = "\n".join(cards.catalogue())
    parts.append(f"```{{toctree}}\n:hidden:\n\n{names}\n```")
    return "\n\n".join(parts) + "\n"


def _thumbnail(card: cards.Card) -> str:
    """A card in the gallery."""
    page = f"{card.name}.md"
    return f"- [![]({card.name}.png)]({page}) [{card.name}]({page}) {card.summary}"


def list_in_api(app: Sphinx, docname: str, source: list[str]) -> None:
    """In the API, a name that has a card is one line that leads there."""
    if docname != "api":
        return
    found = cards.catalogue()

    def line(match: re.Match) -> str:
        card = found.get(match.group(1))
        return match.group() if card is None else f"* :obj:`{card.name}`: {card.summary}\n"

    source[0] = DIRECTIVE.sub(line, source[0])


def _draw(path: Path, draw) -> None:
    """Draws into a file that is missing, or older than the package."""
    package = Path(jaxopt_cards.__file__).parent
    if path.exists() and path.stat().st_mtime > max(
        source.stat().st_mtime for source in package.rglob("*.py")
    ):
        return
    with pictures.style():
        figure, ax = plt.subplots(figsize=SIZE, layout="constrained")
        draw(ax)
        figure.savefig(path, dpi=120)
        plt.close(figure)


def _write(path: Path, text: str) -> None:
    """Leaves a file alone that says this already: Sphinx reads again only what is new."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", write, priority=600)  # after the examples, which are linked
    app.connect("source-read", list_in_api)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
