"""Writes `chapter.md` from `chapter_items.toml` and the results: `make pages`.

On GitHub, links of the page lead to files. The site has its own version, whose links lead to pages.
"""

import importlib
import inspect
import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from _site import examples, verdicts
from sphinx.application import Sphinx

from jaxopt_cards import cards

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PAGE, ITEMS = DOCS / "chapter.md", DOCS / "chapter_items.toml"
BAR = r"\|"  # within a cell of a table
KINDS = ("technique", "claim", "default", "listing", "question", "exercise", "recommendation")
INTRODUCTION = """\
<!-- Written by docs/chapter_page.py; the items are in docs/chapter_items.toml. -->

# The chapter, item by item

This page lists what chapter 11, "Training Deep Neural Nets", of Aurélien Géron's *Hands-On Machine
Learning with Scikit-Learn and TensorFlow* (2017) says, in its order and in our words, and then
what two surveys add: one on optimizers, and one on gradient descent and regularisation. Each item
links to the cards, pages, examples and tests where it is found here.

The last column says whether a claim holds *here*, on small networks and images of digits. Its
figures are read from the results files of the examples. Means of several seeds differ if they
are further apart than the root of the sum of their squared standard deviations; numbers without
a deviation, if they are further apart than five percent. Where the last column is empty, the
item is covered in full.
"""


@dataclass(frozen=True)
class Link:
    """A place in the project, as `chapter_items.toml` describes it."""

    kind: str
    target: str

    @cached_property
    def name(self) -> str:
        """What the reader sees."""
        if self.kind == "page":
            return _headings(self._page())[self.target.partition("#")[2]]
        if self.kind == "example":
            return examples.title_of(self.file()).partition(": ")[0]
        if self.kind == "test":
            return self.target.rpartition("::test_")[2].replace("_", " ")
        return f"`{self.target}`"

    def markdown(self, site: bool) -> str:
        """A link to the file, or to the page of the site."""
        if self.kind == "page":
            page, _, anchor = self.target.partition("#")
            return f"[{self.name}]({page}.md{'#' if anchor else ''}{anchor})"
        if site and self.kind == "card":
            card = cards.card(self.target.rpartition(".")[2])
            return f"{{py:obj}}`{card.name} <{card.module}.{card.name}>`"
        where = f"../{self.file().relative_to(ROOT)}"
        if site and self.kind == "example":
            where = f"_generated/examples/{examples.section_of(self.target)}/{self.target}.rst"
        if site and self.kind == "api":
            where = f"_generated/api/{self.target.rpartition('.')[0] or 'jaxopt_cards'}.md"
        return f"[{self.name}]({where})"

    def file(self) -> Path:
        """The file that the link leads to; raises a `LookupError` if there is nothing."""
        match self.kind:
            case "card" | "api":
                return self._source()
            case "example":
                path = ROOT / "examples" / f"{self.target}.py"
            case "test":
                file, _, function = self.target.partition("::")
                path = ROOT / "tests" / file
                if path.exists() and f"\ndef {function}(" not in path.read_text():
                    raise LookupError(f"{path} has no function {function}")
            case "page":
                path = self._page()
            case _:
                raise LookupError(f"no kind of link: {self.kind}")
        if not path.exists():
            raise LookupError(f"there is no {path}")
        return path

    def _page(self) -> Path:
        return DOCS / f"{self.target.partition('#')[0]}.md"

    def _source(self) -> Path:
        """Where a public name is defined; that of another library is in the list that has it."""
        package, _, name = self.target.rpartition(".")
        module = importlib.import_module(f"jaxopt_cards.{package}".rstrip("."))
        if name not in getattr(module, "__all__", dir(module)):
            raise LookupError(f"{module.__name__} has no {name}")
        if self.kind == "card":
            card = cards.card(name)
            if card.module != module.__name__:
                raise LookupError(f"{name} is in {card.module}")
            module = importlib.import_module(inspect.unwrap(getattr(module, name)).__module__)
        file = Path(inspect.getsourcefile(module))
        stub = file.with_suffix(".pyi")
        return stub if stub.exists() else file


@dataclass(frozen=True)
class Item:
    """One thing that the chapter or a survey says."""

    kind: str
    says: str
    see: str = ""  # links, separated by spaces
    rows: str = ""  # of a results file, with sentences and verdicts
    of: dict[str, str] | None = None  # figures by name
    here: str = ""  # a sentence with figures in braces
    holds: str = ""  # of a claim: the comparison of figures
    tested: bool = False  # of a claim: a test asserts it
    partly: str = ""  # what is missing
    missing: str = ""  # why it is not covered

    def links(self) -> list[Link]:
        """The places where it is found."""
        return [Link(*place.split(":", 1)) for place in self.see.split()]

    def verdict(self) -> str:
        """Whether a claim holds here; empty if the item is none, or was not measured."""
        if self.kind != "claim":
            return ""
        if self.rows:
            return verdicts.told(self.rows)[0]
        if self.holds:
            return verdicts.verdict(self.holds, self._figures())
        return verdicts.HOLDS if self.tested else ""

    def measured(self) -> str:
        """The figures, in sentences."""
        if self.rows:
            return verdicts.told(self.rows)[1]
        told = {name: verdicts.shown(value) for name, value in self._figures().items()}
        return self.here.format(**told) or ("a test asserts it." if self.tested else "")

    def state(self) -> str:
        """The last column."""
        verdict = self.verdict()
        parts = [f"**{verdict[0].upper()}{verdict[1:]}:**" if verdict else "", self.measured()]
        if self.partly:
            parts.append(f"**Partly covered:** {self.partly}")
        if self.missing:
            parts.append(f"**Not covered:** {self.missing}")
        return " ".join(part for part in parts if part)

    def _figures(self) -> dict[str, verdicts.Figure]:
        return {name: verdicts.figure(place) for name, place in (self.of or {}).items()}


def sections() -> dict[str, list[Item]]:
    """The items by the titles of sections, in the chapter's order."""
    listed = tomllib.loads(ITEMS.read_text())["section"]
    return {part["title"]: [Item(**item) for item in part["items"]] for part in listed}


def page(site: bool = False) -> str:
    """The text of the page, with links for GitHub or for the site."""
    found = sections()
    parts = [INTRODUCTION, summary([item for items in found.values() for item in items])]
    numbers = itertools.count(1)
    for title, items in found.items():
        lines = [f"## {title}", "", "| | item | here |", "|--:|---|---|"]
        for item, number in zip(items, numbers, strict=False):
            where = "; ".join(link.markdown(site) for link in item.links())
            text = f"**{item.kind.capitalize()}.** {item.says}<br>{where}".removesuffix("<br>")
            cells = (str(number), text, item.state())
            lines.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def summary(items: Sequence[Item]) -> str:
    """How many items are covered, and how many claims hold."""
    partly = sum(bool(item.partly) for item in items)
    missing = sum(bool(item.missing) for item in items)
    counted = Counter(item.verdict() for item in items if item.kind == "claim")
    failed = [
        str(number)
        for number, item in enumerate(items, start=1)
        if item.kind == "claim" and item.verdict() == verdicts.FAILS
    ]
    return (
        f"Of {len(items)} items, {len(items) - partly - missing} are covered in full, {partly} "
        f"partly, and {missing} not. Of {counted.total()} claims, {counted[verdicts.HOLDS]} hold "
        f"here, {counted[verdicts.MIXED]} hold in part, {counted[verdicts.FAILS]} do not, "
        f"{counted[verdicts.UNCLEAR]} make no clear difference, and {counted['']} were not "
        f"measured. Those that do not hold here: {', '.join(failed)}.\n"
    )


def _headings(path: Path) -> dict[str, str]:
    """The headings of a page by their anchors, and its title as that of no anchor."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: dict[str, str] = {}
    for heading in re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE):
        found.setdefault("", heading)
        found[re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")] = heading
    return found


def _for_the_site(app: Sphinx, name: str, source: list[str]) -> None:
    """Replaces the page's text while the site is built."""
    if name == PAGE.stem:
        source[0] = page(site=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _for_the_site)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    PAGE.write_text(page())
