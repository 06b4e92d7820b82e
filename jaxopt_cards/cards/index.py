"""An index of all public techniques, from the source of the package, without importing it."""

import ast
import dataclasses
import difflib
import functools
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxopt_cards.cards.terms import TERMS
from jaxopt_cards.core.errors import NamedError

PACKAGE = "jaxopt_cards"
YOUR_OWN = "Your own"  # the family of functions outside this package
_ROOT = Path(__file__).parents[1]

# Kind and family by the module that defines a technique: the longest matching prefix counts.
# Families are the headings of the API's pages.
_PLACES = {
    "optimizers": ("optimizer", "Optimizers"),
    "optimizers.gradient_descent": ("transformation", "Momentum"),
    "optimizers.true_nesterov": ("transformation", "Momentum"),
    "optimizers.": ("transformation", "Adaptive scaling"),
    "transforms.clipping": ("transformation", "Gradient clipping"),
    "transforms.learning_rate": ("transformation", "Learning rates"),
    "transforms.averaging": ("transformation", "Averaging"),
    "transforms": ("regulariser", "Regularisation"),
    "wrappers": ("transformation", "Around any transformation"),
    "core.leafwise": ("transformation", "Write your own"),
    "layers.penalties": ("regulariser", "Regularisation"),
    "schedules": ("schedule", "Schedules"),
    "selection": ("selection", "Selection"),
    "layers": ("layer", "Layers"),
    "training": ("training", "Training"),
    "reports": ("training", "Training"),
    "transfer": ("transfer", "Transfer"),
    "data": ("data", "Data"),
}
FAMILIES = tuple(dict.fromkeys(family for _, family in _PLACES.values()))
KINDS = tuple(dict.fromkeys(kind for kind, _ in _PLACES.values()))
Definition = ast.FunctionDef | ast.ClassDef


@dataclasses.dataclass(frozen=True)
class Entry:
    """A public technique, and the place of its source."""

    name: str
    kind: str
    family: str
    module: str  # from which users import it
    defined_in: str  # the module with its source
    docstring: str
    definition: Definition = dataclasses.field(repr=False, compare=False)
    file: "File" = dataclasses.field(repr=False, compare=False)


class File(NamedTuple):
    """The contents of a source file."""

    lines: list[bytes]  # columns of the syntax tree count bytes
    tree: ast.Module
    definitions: dict[str, Definition]
    constants: dict[str, ast.expr]

    @property
    def listed(self) -> list[str]:
        """The names in `__all__`."""
        names: list[str] = ast.literal_eval(self.constants["__all__"])
        return names

    def written(self, node: ast.expr) -> str:
        """An expression as in the source, such as 1e-8; constants by their value."""
        node = self.constants.get(node.id, node) if isinstance(node, ast.Name) else node
        if node.lineno != node.end_lineno:
            return ast.unparse(node)
        return self.lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()


@functools.cache
def entries() -> Mapping[str, Entry]:
    """All public techniques by name, sorted by family."""
    found = sorted(_found(), key=lambda entry: FAMILIES.index(entry.family))
    return MappingProxyType({entry.name: entry for entry in found})


def entry(name: str) -> Entry:
    """The technique with that name, with or without its module.

    Case, spaces and underscores may differ if only one technique fits. Errors suggest similar
    names.
    """
    known = entries().values()
    exact = [each for each in known if name in (each.name, f"{each.module}.{each.name}")]
    found = exact or [each for each in known if _letters(each.name) == _letters(name)]
    if len(found) == 1:
        return found[0]
    hint = _nearest(each.name for each in found) or _hint(name)
    raise NamedError(f"name must be a technique of {PACKAGE}, got {name!r}{hint}")


def entry_of(function: Callable[..., Any]) -> Entry:
    """The entry of a function outside this package: its source is not read, only its signature."""
    name, module = function.__name__, function.__module__ or "__main__"
    file = _parsed(_signature(function).encode())
    definition = file.definitions[name]
    kind = "optimizer" if _takes_rate_first(definition) else "transformation"
    docstring = inspect.getdoc(function) or ""
    return Entry(name, kind, YOUR_OWN, module, module, docstring, definition, file)


def _signature(function: Callable[..., Any]) -> str:
    """A definition with the signature of a function, without annotations."""
    given = [
        each.replace(
            annotation=each.empty,
            default=each.empty if each.default is each.empty else _Default(each.default),
        )
        for each in inspect.signature(function).parameters.values()
    ]
    return f"def {function.__name__}{inspect.Signature(given)}: ..."


class _Default:
    """A default value that is written as in Python, or as three dots."""

    def __init__(self, value: Any):
        self._text = repr(value)

    def __repr__(self) -> str:
        try:
            ast.parse(self._text, mode="eval")
        except SyntaxError:  # such as <function relu>
            return "..."
        return self._text


def _letters(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()


def _hint(name: str) -> str:
    if name in _read(_ROOT / "from_optax.py").listed:
        return f": {name} is a function of Optax, re-exported unchanged"
    if name in (theirs := _of_optax()):
        return f"; it is Optax's: {theirs[name]}"
    meant = _nearest(_by_meaning(name) or nearest(name, entries()))
    return meant or "; `jaxopt-cards list` shows all techniques"


def _nearest(names: Iterable[str]) -> str:
    """The end of an error that suggests names, if there are any."""
    listed = ", ".join(names)
    return f"; nearest: {listed}" if listed else ""


def _by_meaning(text: str) -> list[str]:
    """The techniques with all words of the text in one of their terms, or in name and summary."""
    words = _words(text.rpartition(".")[2])

    def begins(short: str, word: str) -> bool:  # "sam" is too short for "same"
        return word == short or (len(short) > 3 and word.startswith(short))

    def has_all(other: str) -> bool:
        return bool(words) and all(any(begins(w, each) for each in _words(other)) for w in words)

    of_terms = [name for term, names in TERMS.items() if has_all(term) for name in names]
    saying = [
        each.name
        for each in entries().values()
        if has_all(f"{each.name} {each.docstring.partition(chr(10))[0]}")
    ]
    return list(dict.fromkeys(of_terms + saying))[:4]


def _words(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())


def _of_optax() -> dict[str, str]:
    """Where Optax has each name, read without importing it."""
    places: dict[str, str] = {}
    spec = importlib.util.find_spec("optax")
    root = Path(spec.origin if spec and spec.origin else "").parent
    for module in ("optax.contrib", "optax"):
        folder = root.joinpath(*module.split(".")[1:])
        for node in ast.walk(ast.parse((folder / "__init__.py").read_bytes())):
            if isinstance(node, ast.ImportFrom) and f"{node.module}".startswith(
                ("optax._src.", "optax.contrib._")
            ):
                places |= {each.name: f"{module}.{each.name}" for each in node.names}
    return places


def nearest(name: str, among: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """The most similar names, ignoring case, and those that contain this name."""
    known: dict[str, list[str]] = {}
    for each in among:
        known.setdefault(each.lower(), []).append(each)
    name = name.rpartition(".")[2].lower()
    alike = difflib.get_close_matches(name, known, n=4, cutoff=cutoff)
    containing = [each for each in known if name and name in each]
    return [each for lower in dict.fromkeys(alike + containing) for each in known[lower]][:4]


def _found() -> Iterator[Entry]:
    """All public functions and classes of the package that users call."""
    for module, stub in _public_modules():
        for name, defined_in in _imported(module, stub):
            file = _read(_path(defined_in))
            definition = file.definitions.get(name)
            docstring = definition and ast.get_docstring(definition)
            if definition and docstring and "\nUse when: " in docstring:
                kind, family = _place(defined_in, definition)
                yield Entry(name, kind, family, module, defined_in, docstring, definition, file)


def _public_modules() -> Iterator[tuple[str, Path]]:
    """The modules from which users import, and the files that list their names."""
    yield PACKAGE, _ROOT / "__init__.pyi"
    yield f"{PACKAGE}.schedules", _ROOT / "schedules.py"
    for name in ("layers", "training", "reports", "transfer", "data"):
        yield f"{PACKAGE}.{name}", _ROOT / name / "__init__.pyi"


def _imported(module: str, listing: Path) -> Iterator[tuple[str, str]]:
    """The public names of a module that this package defines, and the modules that define them."""
    file = _read(listing)
    imports = {
        alias.name: f"{module}.{node.module}"
        for node in file.tree.body
        if isinstance(node, ast.ImportFrom) and node.level
        for alias in node.names
    }
    for name in file.listed:
        defined_in = imports.get(name, module)
        if not defined_in.endswith((".from_optax", ".None")):  # another library, or a package
            yield name, defined_in


def _path(module: str) -> Path:
    """The file of a module of this package."""
    base = _ROOT.joinpath(*module.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@functools.cache
def _read(path: Path) -> File:
    return _parsed(path.read_bytes())


def _parsed(source: bytes) -> File:
    """Functions, classes and named constants of a file."""
    tree = ast.parse(source)
    definitions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    constants = {
        ast.unparse(node.targets[0]): node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
    }
    return File(source.split(b"\n"), tree, definitions, constants)


def _place(defined_in: str, definition: Definition) -> tuple[str, str]:
    """Kind and family of a definition."""
    parts = defined_in.split(".")[1:]
    if parts[0] == "optimizers" and not _takes_rate_first(definition):
        return _PLACES.get(".".join(parts), _PLACES["optimizers."])
    if parts[0] == "optimizers":
        return _PLACES["optimizers"]
    beginnings = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next(_PLACES[each] for each in beginnings if each in _PLACES)


def _takes_rate_first(definition: Definition) -> bool:
    """Whether it is an optimizer and not one of its stages."""
    name, arguments = definition.name, getattr(definition, "args", None)
    first = arguments.args[0].arg if arguments and arguments.args else ""
    return first == "learning_rate" and not name.startswith("scale_by_")
