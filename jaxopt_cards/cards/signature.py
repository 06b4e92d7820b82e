"""Signatures: as written in the package's source, or as Python knows them."""

import ast
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from jaxopt_cards.cards.index import Definition, Entry

Parameter = tuple[str, str | None, bool]  # name, default, and whether it goes by name only


def signature(function: str, given: Iterable[Parameter]) -> str:
    """The call with its defaults."""
    parts: list[str] = []
    for name, default, keyword in given:
        if keyword and not any(part.startswith("*") for part in (*parts, name)):
            parts.append("*")
        parts.append(name if default is None else f"{name}={default}")
    return f"{function}({', '.join(parts)})"


def parameters(known: Entry) -> Iterator[Parameter]:
    """The parameters of a technique of the package, with defaults as in the source."""
    given = _made_by(known.definition)
    if given is None:
        given = _of_fields(known.definition)
    positional = [*given.posonlyargs, *given.args]
    required = [None] * (len(positional) - len(given.defaults))
    defaults = [*required, *given.defaults, *given.kw_defaults]
    for place, each in enumerate((*positional, *given.kwonlyargs)):
        default = defaults[place]
        if each.arg != "self":
            text = None if default is None else known.file.written(default)
            yield each.arg, text, place >= len(positional)
    if given.kwarg:
        yield f"**{given.kwarg.arg}", None, True


def parameters_of(function: Callable[..., Any]) -> Iterator[Parameter]:
    """The parameters of any function."""
    for each in inspect.signature(function).parameters.values():
        name = str(each.replace(annotation=each.empty, default=each.empty))  # with its stars
        default = None if each.default is each.empty else repr(each.default)
        yield name, default, each.kind in (each.KEYWORD_ONLY, each.VAR_KEYWORD)


def _made_by(definition: Definition) -> ast.arguments | None:
    """The arguments of a function, or of what makes an object of a class."""
    if isinstance(definition, ast.FunctionDef):
        return definition.args
    functions = (node for node in definition.body if isinstance(node, ast.FunctionDef))
    return next((node.args for node in functions if node.name == "__init__"), None)


def _of_fields(definition: Definition) -> ast.arguments:
    """The arguments that a dataclass has by its fields."""
    fields = [node for node in definition.body if isinstance(node, ast.AnnAssign)]
    return ast.arguments(
        posonlyargs=[],
        args=[ast.arg(ast.unparse(field.target)) for field in fields],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[field.value for field in fields if field.value],
    )
