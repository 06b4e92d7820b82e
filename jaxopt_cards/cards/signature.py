"""Signatures and declared ranges, as in the source."""

import ast
from collections.abc import Iterator

from jaxopt_cards.cards.index import Definition, Entry


def signature(known: Entry) -> str:
    """The call with its defaults."""
    parts = []
    for name, default, keyword in parameters(known):
        if keyword and "*" not in parts and not name.startswith("*"):
            parts.append("*")
        parts.append(name if default is None else f"{name}={default}")
    return f"{known.name}({', '.join(parts)})"


def parameters(known: Entry) -> Iterator[tuple[str, str | None, bool]]:
    """Each parameter, its default as in the source, and whether it is keyword-only."""
    given = _arguments(known.definition)
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


def declared(known: Entry) -> dict[str, str]:
    """The type and range of each argument that has them in its annotation, in words."""
    given = _arguments(known.definition)
    annotated = {each.arg: each.annotation for each in (*given.args, *given.kwonlyargs)}
    words = {name: _in_words(annotation) for name, annotation in annotated.items() if annotation}
    return {name: text for name, text in words.items() if text}


def _in_words(annotation: ast.expr) -> str:
    if ast.unparse(annotation) == "bool":
        return "bool"
    for node in ast.walk(annotation):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Annotated":
            kind, interval = map(ast.unparse, getattr(node.slice, "elts", [])[:2])
            number = "int" if kind == "int" else "float"
            schedule = ", or a schedule" if "Schedule" in kind else ""
            return f"{number} in {ast.literal_eval(interval)}{schedule}"
    return ""


def returned(known: Entry) -> str:
    """What a function is annotated to return."""
    returns = getattr(known.definition, "returns", None)
    return ast.unparse(returns) if returns else ""


def _arguments(definition: Definition) -> ast.arguments:
    """The arguments of a function, of the `__init__` of a class, or of a dataclass's fields."""
    if isinstance(definition, ast.FunctionDef):
        return definition.args
    for node in definition.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            return node.args
    fields = [node for node in definition.body if isinstance(node, ast.AnnAssign)]
    return ast.arguments(
        posonlyargs=[],
        args=[ast.arg(ast.unparse(field.target), field.annotation) for field in fields],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[field.value for field in fields if field.value],
    )
