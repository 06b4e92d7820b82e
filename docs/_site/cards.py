"""A page and two pictures for each card, and the gallery of all, made before the site is built."""

import importlib
import itertools
import re
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from sphinx.application import Sphinx

import jaxopt_cards
from _site import api
from jaxopt_cards import cards, pictures
from jaxopt_cards.cards.facts import at
from jaxopt_cards.cards.gallery import DRAWERS
from jaxopt_cards.cards.terms import TERMS

SIZE = (4.8, 3.6)  # inches
# Paths on a surface of two parameters are drawn at rates that no network would bear.
SURFACE_NOTE = (
    "Paths on a surface of two parameters, from the ring to the large markers. Learning rates that "
    "are best here are much larger than those for networks."
)


def write(app: Sphinx) -> None:
    """Writes all pages, and draws what is older than the package."""
    folder = Path(app.srcdir, "_generated", "cards")
    folder.mkdir(parents=True, exist_ok=True)
    examples = Path(app.srcdir, "_generated", "backreferences")
    for card in cards.catalogue().values():
        if card.name in DRAWERS:
            _draw(folder / f"{card.name}.png", lambda ax, card=card: cards.picture(ax, card))
        _write(folder / f"{card.name}.md", _page(card, examples))
    families = _families()
    for family, group in families.items():
        _write(folder / f"{_slug(family)}.md", _family(family, group))
    _write(folder / "index.md", _gallery(families))
    _draw(folder.parent / "race.png", _race)


def _race(ax: Axes) -> None:
    """The picture of the start page: four optimizers, each at its best rate."""
    runs = cards.race("rosenbrock", ["sgd", "momentum", "nesterov", "adam"])
    ways = {run.name: run.path for run in runs}
    pictures.paths(ax, cards.SURFACES["rosenbrock"], ways)


def _page(card: cards.Card, examples: Path) -> str:
    """Picture, docstring, facts, and examples that use it."""
    thing = getattr(importlib.import_module(card.module), card.name)
    directive = api.directive(card.module, card.name, thing)
    parts = [f"# {card.name}"]
    if card.name in DRAWERS:
        parts.append(_picture(f"{card.name}.png", card.summary, ".card"))
    if card.kind == "optimizer" and card.name != "ftrl":
        parts.append(f"{{.caption}}\n{SURFACE_NOTE}")
    entries = "".join(f".. index:: {entry}\n" for entry in _terms(card.name))
    parts.append(f"```{{eval-rst}}\n{entries}\n{directive}```")
    if card.facts:
        parts.append(_facts(card.facts))
    used = examples / f"{card.module}.{card.name}.examples"
    if used.exists() and used.stat().st_size:
        gallery = f".. minigallery:: {card.module}.{card.name}"
        parts.append(f"## In the examples\n\n```{{eval-rst}}\n{gallery}\n```")
    return "\n\n".join(parts) + "\n"


def _terms(name: str) -> list[str]:
    """Entries of the index: main ones, since the site's search lists others below all text."""
    return [f"! {term}" for term, names in TERMS.items() if name in names]


def _picture(file: str, alt: str, classes: str = "") -> str:
    """The picture for the light theme, and that for the dark one."""
    dark = file.replace(".png", ".dark.png")
    return f"![{alt}]({file}){{.only-light {classes}}}![{alt}]({dark}){{.only-dark {classes}}}"


def _facts(facts: cards.Facts) -> str:
    """What was measured, as a table."""
    rows = {
        "state, bytes for each float32 parameter": f"{facts.state_bytes:.4g}",
        "arrays like the parameters that a step reads or writes": f"{facts.passes:.4g}",
        "operations for each parameter and step": f"{facts.operations:.4g}",
        "needs the parameters": "yes" if facts.needs_params else "no",
        "each element by itself": "yes" if facts.elementwise else "no",
        "wants the gradient": at(facts.gradient_at),
        "is to be evaluated": at(facts.evaluated_at),
        "may be traced, many values in one program": ", ".join(f"`{n}`" for n in facts.traced)
        or "–",
    }
    how = f"With `{facts.settings}`, compiled" if facts.settings else "Compiled"
    lines = [f"| {what} | {value} |" for what, value in rows.items()]
    table = "\n".join(["| | |", "|---|---|", *lines])
    return f"## Measured\n\n{how} for a CPU:\n\n{table}"


def _families() -> dict[str, list[cards.Card]]:
    """The cards of each family."""
    grouped = itertools.groupby(cards.catalogue().values(), lambda card: card.family)
    return {family: list(group) for family, group in grouped}


def _gallery(families: dict[str, list[cards.Card]]) -> str:
    """All cards, family by family."""
    parts = ["# The cards", "What each technique computes, and when to use it: a page for each."]
    for family, group in families.items():
        parts += [f"## [{family}]({_slug(family)}.md)", _thumbnails(group)]
    names = "\n".join(map(_slug, families))
    parts.append(f"```{{toctree}}\n:hidden:\n\n{names}\n```")
    return "\n\n".join(parts) + "\n"


def _family(family: str, group: list[cards.Card]) -> str:
    """The cards of one family."""
    names = "\n".join(card.name for card in group)
    toctree = f"```{{toctree}}\n:hidden:\n\n{names}\n```"
    return f"# {family}\n\n{_thumbnails(group)}\n\n{toctree}\n"


def _slug(family: str) -> str:
    """The name of a family's page."""
    return "family_" + re.sub(r"\W+", "_", family.lower())


def _thumbnails(group: list[cards.Card]) -> str:
    """The cards of a group in the gallery."""
    lines = ["{.cards}"]
    for card in group:
        page = f"{card.name}.md"
        picture = f"[{_picture(f'{card.name}.png', '')}]({page}) " if card.name in DRAWERS else ""
        lines.append(f"- {picture}[{card.name}]({page}) {card.summary}")
    return "\n".join(lines)


def _draw(path: Path, draw) -> None:
    """Draws for both themes, if the file is missing or older than the package."""
    package = Path(jaxopt_cards.__file__).parent
    if path.exists() and path.stat().st_mtime > max(
        source.stat().st_mtime for source in package.rglob("*.py")
    ):
        return
    for dark in (True, False):
        with pictures.style(dark=dark):
            figure, ax = plt.subplots(figsize=SIZE, layout="constrained")
            draw(ax)
            figure.savefig(path.with_suffix(".dark.png" if dark else ".png"), dpi=120)
            plt.close(figure)


def _write(path: Path, text: str) -> None:
    """Leaves a file alone that says this already: Sphinx reads again only what is new."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", write, priority=600)  # after the examples, which are linked
    return {"parallel_read_safe": True, "parallel_write_safe": True}
