"""Writes the lists of what is public: `make lists`, after a technique was added or removed.

A function or class with `@declare` is public. What is not declared, such as a class of results, is
public if the package's `__init__.pyi` lists it.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "jaxopt_cards"
README = ROOT / "README.md"
# The package itself exports what is defined in these.
TOP = ("core", "optimizers", "transforms", "wrappers")


def stub(path: Path) -> str:
    """The text of an `__init__.pyi`: what it imports, `__all__`, and the rest as it is."""
    tree = ast.parse(path.read_text())
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    rest = [node for node in tree.body[1:] if node not in imports and "__all__" not in _bound(node)]
    listed = {(node.module, alias.name) for node in imports for alias in node.names}
    names = sorted((None, name) for module, name in listed if module is None)
    for file in _files(path):
        module = ".".join(file.relative_to(path.parent).with_suffix("").parts)
        names += [(module, name) for name in _public(file, module, listed)]
    lines = [f"from .{module or ''} import {name}" for module, name in names]
    public = f"__all__ = {[name for _, name in names]}"
    head = f'"""{ast.get_docstring(tree)}"""'
    return _formatted("\n".join([head, *lines, *map(ast.unparse, rest), public]))


def _files(stub: Path) -> list[Path]:
    """The files from which a package exports names."""
    if stub.parent != PACKAGE:
        return sorted(stub.parent.rglob("*.py"))
    rooms = [file for room in TOP for file in (PACKAGE / room).glob("*.py")]
    return sorted([*PACKAGE.glob("*.py"), *rooms])


def _public(file: Path, module: str, listed: set[tuple[str | None, str]]) -> Iterator[str]:
    """The names of a file that are declared, or listed and still there."""
    body = ast.parse(file.read_text()).body
    # What a module lists itself, as `schedules` does, is public there.
    lists_itself = any("__all__" in _bound(node) for node in body)
    for node in body:
        declared = _is_declared(node) and not lists_itself
        yield from (name for name in _bound(node) if declared or (module, name) in listed)


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.ImportFrom():
            return [alias.name for alias in node.names]
    return []


def _is_declared(node: ast.stmt) -> bool:
    """Whether it is a function, or a class with an `__init__`, that is decorated with `declare`."""
    inner = node.body if isinstance(node, ast.ClassDef) else []
    makers = [each for each in inner if getattr(each, "name", "") == "__init__"]
    decorators = [each for part in (node, *makers) for each in getattr(part, "decorator_list", [])]
    return any(re.match(r"declare\b", ast.unparse(each)) for each in decorators)


def _formatted(text: str) -> str:
    """Formats a stub as `make lint` does."""
    for arguments in (["check", "--select=I,RUF022", "--fix", "--quiet"], ["format"]):
        command = [sys.executable, "-m", "ruff", *arguments, "--stdin-filename=_.pyi", "-"]
        made = subprocess.run(
            command, input=text, capture_output=True, check=True, text=True, cwd=ROOT
        )
        text = made.stdout
    return text


def techniques() -> str:
    """One line for each function that the package itself exports, family by family."""
    from jaxopt_cards.cards.index import entries

    ours = [each for each in entries().values() if each.module == "jaxopt_cards"]
    lines = []
    for family, members in groupby(ours, key=lambda entry: entry.family):
        lines += [f"| **{family}** | |", *([] if lines else ["|---|---|"])]
        lines += [f"| `{each.name}` | {each.docstring.splitlines()[0]} |" for each in members]
    return "\n".join(lines) + "\n"


def readme() -> str:
    """The README with its table of techniques."""
    part = re.compile(r"(?<=<!-- techniques -->\n).*?(?=<!-- end -->)", re.DOTALL)
    return part.sub(lambda _: techniques(), README.read_text(), count=1)


def main() -> None:
    """Writes the stubs, then the README, which reads them, then the facts of new techniques."""
    for path in PACKAGE.rglob("__init__.pyi"):
        path.write_text(stub(path))
    README.write_text(readme())
    from jaxopt_cards.cards import measure

    measure.main(only_new=True)


if __name__ == "__main__":
    main()
