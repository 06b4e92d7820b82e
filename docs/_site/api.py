"""The API pages: one for each public module, made from the lists of what is public."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from flax import nnx
from sphinx.application import Sphinx

import jaxopt_cards
from jaxopt_cards import cards

PACKAGE = jaxopt_cards.__name__


def pages() -> dict[str, str]:
    """The text of each page by its name; each public name is on the first that has it."""
    taken: set[int] = set()
    made = {}
    for module in modules():
        sections = _sections(module, taken)
        if sections:
            title = module.__name__
            made[title.rpartition(".")[2]] = (
                "\n\n".join([f"# {title}", _summary(module), *sections]) + "\n"
            )
    toctree = "\n".join(made)
    text = "Each name leads to its card; what has no card is described here."
    made["index"] = f"# API\n\n{text}\n\n```{{toctree}}\n:maxdepth: 2\n\n{toctree}\n```\n"
    return made


def _summary(module: ModuleType) -> str:
    """The first line of its docstring."""
    return (inspect.getdoc(module) or "").partition("\n")[0]


def modules() -> list[ModuleType]:
    """The package, and its public modules that list their names."""
    found = [
        importlib.import_module(f"{PACKAGE}.{info.name}")
        for info in pkgutil.iter_modules(jaxopt_cards.__path__)
        if not info.name.startswith("_")
    ]
    return [jaxopt_cards, *(module for module in found if hasattr(module, "__all__"))]


def directive(module: str, name: str, thing: object) -> str:
    """The directive of Sphinx that describes a public name."""
    place = f".. currentmodule:: {module}\n\n"
    if inspect.isclass(thing):
        members = ", ".join(_members(thing))
        return f"{place}.. autoclass:: {name}\n" + (f"   :members: {members}\n" if members else "")
    if callable(thing):
        return f"{place}.. autofunction:: {name}\n"
    keys = (
        f"A mapping with the keys {', '.join(map(str, thing))}." if hasattr(thing, "keys") else ""
    )
    return f"{place}.. data:: {name}\n\n   {keys}\n"


def _members(made: type) -> Iterator[str]:
    """The methods of a class that are its own and have a docstring."""
    for name, member in vars(made).items():
        called = name == "__call__" and not issubclass(made, nnx.Module)
        if isinstance(member, classmethod | staticmethod):
            member = member.__func__
        own = inspect.isfunction(member) or isinstance(member, property)
        if own and member.__doc__ and (called or not name.startswith("_")):
            yield name


def _sections(module: ModuleType, taken: set[int]) -> list[str]:
    """A heading for each family, with its names; and those of other libraries."""
    families: dict[str, list[str]] = {}
    foreign: dict[str, list[str]] = {}
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.ismodule(thing) or id(thing) in taken:
            continue
        taken.add(id(thing))
        defined_in = getattr(thing, "__module__", PACKAGE) or PACKAGE
        library = defined_in.partition(".")[0]
        if library != PACKAGE:
            foreign.setdefault(_home(library), []).append(name)
        else:
            families.setdefault(_family(defined_in), []).append(_entry(module, name, thing))
    order = [*dict.fromkeys(card.family for card in cards.catalogue().values()), ""]
    several = len(families) > 1
    sections = []
    for family in sorted(families, key=order.index):
        heading = [f"## {family or 'Other'}"] if several else []
        lines = sorted(families[family], key=lambda entry: not entry.startswith("- "))
        sections.append("\n\n".join([*heading, "\n".join(lines)]))
    for library, names in foreign.items():
        listed = ", ".join(f"`{name}`" for name in names)
        sections.append(f"## From {library}\n\nRe-exported without changes: {listed}.")
    return sections


def _home(library: str) -> str:
    """The library that users know a re-exported name from."""
    return {"optax": "Optax", "flax": "Flax", "jax": "JAX"}.get(library, library)


def _entry(module: ModuleType, name: str, thing: object) -> str:
    """A line that leads to the card, or the whole description of what has none."""
    card = cards.catalogue().get(name)
    if card is not None and card.module == module.__name__:
        return f"- {{py:obj}}`{name} <{card.module}.{name}>`: {card.summary}"
    return f"\n```{{eval-rst}}\n{directive(module.__name__, name, thing)}```\n"


def _family(defined_in: str) -> str:
    """The family of the techniques that are defined in the same place."""
    named = {
        getattr(importlib.import_module(card.module), card.name).__module__: card.family
        for card in cards.catalogue().values()
    }
    return named.get(defined_in, "")


def write(app: Sphinx) -> None:
    """Writes all pages."""
    folder = Path(app.srcdir, "_generated", "api")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
