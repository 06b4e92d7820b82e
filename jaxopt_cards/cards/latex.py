"""Conversion of the LaTeX in cards to lines of Unicode, for a terminal."""

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pylatexenc import latex2text, latexwalker
from pylatexenc.macrospec import LatexContextDb, MacroSpec

_RAISED = dict(
    zip(
        "0123456789+\u2212=()abcdefghijklmnoprstuvwxyzLT*",
        "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴸᵀ*",
        strict=True,
    )
)
_LOWERED = dict(
    zip("0123456789+\u2212=()aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ", strict=True)
)
_ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303"}
_WORDS = {"text", "mathrm", "operatorname"}  # their arguments are words, not products of letters
_FONTS = {"mathbb", "mathcal"}  # dropped, since the equations use each letter in one font only
_FRACTIONS = {"frac", "tfrac"}
_NAMES = {"arg", "cos", "log", "max", "min", "sin"}
_SIZES = {"left", "right", "big", "bigl", "bigr", "Big", "textstyle", "!"}
_SYMBOLS = {",": " ", ";": " ", " ": " ", "quad": "\t", "qquad": "\t", "{": "{", "}": "}"}
_SYMBOLS |= {"top": "T", "lVert": "‖", "rVert": "‖", "sim": "~", "epsilon": "ε", "phi": "φ"}
_SYMBOLS |= {"ell": "ℓ", "ne": "≠", "arg": "arg", "backslash": "\\"}
_ENVIRONMENTS = {"cases": ("{ ", " for ", "; ", " }"), "pmatrix": ("[", ", ", "; ", "]")}
_names = functools.cache(latex2text.get_default_latex_context_db)  # symbols of macros


class _Token(NamedTuple):
    """A character, or a node of the parser with the spaces after it."""

    text: str  # "" for a node
    node: Any = None  # pylatexenc is not typed


def lines(latex: str, width: int = 76) -> list[str]:
    """The lines of an equation, aligned at the relations.

    Raises ValueError for invalid or unsupported LaTeX.
    """
    rows = [[_joined(cell) for cell in row] for row in _rows(_parsed(latex))]
    rows = [row for row in rows if any(row)]
    indent = max((_width(row[0]) for row in rows if len(row) > 1), default=0)
    return [line for row in rows for line in _laid_out(row, indent, width)]


def inline(text: str) -> str:
    """Text with formulas such as :math:`x_t` as Unicode."""
    return re.sub(r":math:`(.*?)`", lambda found: _one_line(found[1]), text)


@functools.cache
def _one_line(latex: str) -> str:
    return " ".join(lines(latex, width=10**6))


def _laid_out(row: Sequence[str], indent: int, width: int) -> Iterable[str]:
    """A row of the equation; broken if it is too wide, preferably at the author's spaces."""
    start = " " * (indent - _width(row[0])) if len(row) > 1 else ""
    first, *others = [part.strip() for part in " ".join(row).split("\t")]
    text = start + "   ".join([first, *others])
    if _width(text) <= width:
        return [text]
    parts = [start + first, *(" " * (indent + 2) + other for other in others)]
    return [line for part in parts for line in _broken(part, indent + 4, width)]


def _broken(line: str, indent: int, width: int) -> Iterable[str]:
    """A line; broken before a plus or minus or after a comma if it is too wide."""
    while _width(line) > width:
        places = [found.start() for found in re.finditer(r" (?=[+\u2212/=·] )|(?<=[,;]) ", line)]
        fitting = [place for place in places if indent < place <= width]
        if not fitting:
            break
        yield line[: fitting[-1]]
        line = " " * indent + line[fitting[-1] :].strip()
    yield line


def _width(text: str) -> int:
    """The columns of a text, in which combining accents do not count."""
    return sum(not unicodedata.combining(character) for character in text)


def _parsed(latex: str) -> list[Any]:
    """The nodes of a LaTeX text."""
    try:
        walker = latexwalker.LatexWalker(latex, _grammar(), tolerant_parsing=False)
        nodes: list[Any] = walker.get_latex_nodes()[0]
    except latexwalker.LatexWalkerParseError as error:
        raise ValueError(f"latex: {error}") from error
    return nodes


def _rows(nodes: Iterable[Any]) -> list[list[list[Any]]]:
    """The lines, separated by double backslashes, each with its cells, separated by `&`."""
    rows: list[list[list[Any]]] = [[[]]]
    for node in nodes:
        if getattr(node, "macroname", None) == "\\":
            rows.append([[]])
            # A bracket at the start of a line is not the optional argument of the line break.
            if (bracket := node.nodeargd.argnlist[1]) is not None:
                rows[-1][0].extend([_Token("["), *bracket.nodelist, _Token("]")])
        elif getattr(node, "specials_chars", None) == "&":
            rows[-1].append([])
        else:
            rows[-1][-1].append(node)
    return rows


def _joined(nodes: Iterable[Any]) -> str:
    """Nodes as text, with superscripts and subscripts."""
    tokens = [token for node in nodes for token in _tokens(node)]
    parts: list[str] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        if token.text in ("_", "^"):
            if place + 1 == len(tokens):
                raise ValueError("latex: a script is missing")
            place += 1
            parts.append(_script(token.text, tokens[place]))
        else:
            parts.append(_text(token))
        place += 1
    return re.sub(r" +", " ", _close("".join(parts))).strip(" ")


def _close(text: str) -> str:
    """Removes spaces inside bars and brackets, and adds them after names of functions."""
    text = re.sub(r"‖ ?(.*?) ?‖", r"‖\1‖", text)
    text = re.sub(r"(?<=[(\[]) +| +(?=[)\],;])", "", text)
    return re.sub(r"\b(cos|sin)(?=[^\W_])", r"\1 ", text)


def _tokens(node: Any) -> Iterable[_Token]:
    """Single characters, since a script without braces has only one; other nodes unchanged."""
    if isinstance(node, _Token):
        return [node]
    if hasattr(node, "chars"):
        return [_Token(character) for character in " ".join(re.split(r"\s+", node.chars))]
    return [_Token("", node)]


def _text(token: _Token) -> str:
    """The text of a token that is not a script."""
    if token.node is None:
        return {"-": "\u2212", "'": "\u2032"}.get(token.text, token.text)
    node = token.node
    if hasattr(node, "environmentname"):
        return _environment(node)
    if not hasattr(node, "macroname"):
        return _joined(node.nodelist)
    text = _macro(node.macroname, node)
    apart = node.macro_post_space and text and not _arguments(node) and node.macroname != "nabla"
    return text + " " * bool(apart)


def _macro(name: str, node: Any) -> str:
    """The text of a macro with its arguments."""
    arguments = _arguments(node)
    if name in _WORDS:
        return arguments[0].latex_verbatim()[1:-1]
    if name in _SIZES:
        return ""
    texts = [_joined([argument]) for argument in arguments]
    if name in _ACCENTS:
        return unicodedata.normalize("NFC", texts[0][0] + _ACCENTS[name]) + texts[0][1:]
    if name in _FONTS:
        return texts[0]
    if name == "sqrt":
        return f"√{texts[-1]}" if re.fullmatch(r"\w{1,2}", texts[-1]) else f"√({texts[-1]})"
    if name in _FRACTIONS:
        return _fraction(*texts)
    return _SYMBOLS[name] if name in _SYMBOLS else _symbol(name)


def _arguments(node: Any) -> list[Any]:
    """The arguments of a macro."""
    return [each for each in (node.nodeargd.argnlist if node.nodeargd else []) if each]


def _fraction(above: str, below: str) -> str:
    """A fraction on one line, with brackets if needed."""
    if (above, below) == ("1", "2"):
        return "½ "
    bare_above, bare_below = _outside(above), _outside(below)
    above = f"({above})" if re.search(r" [+\u2212⊙/] ", bare_above) else above
    below = f"({below})" if re.search(r"[ /]", bare_below) or ")(" in below else below
    is_factor = above.isdigit() and " " not in below
    return f"{above}/{below}" if is_factor else f"{above} / {below}"


def _outside(text: str) -> str:
    """The text outside brackets and bars."""
    previous = None
    while text != previous:
        previous, text = text, re.sub(r"\([^()]*\)|‖[^‖]*‖", "", text)
    return text


def _script(kind: str, token: _Token) -> str:
    """A subscript or superscript; with `_` or `^` if Unicode lacks the letters."""
    text = _text(token).strip()
    after = " " * bool(getattr(token.node, "macro_post_space", ""))
    characters = text.replace(" ", "")
    table = _RAISED if kind == "^" else _LOWERED
    if not _has_words(token.node) and all(each in table for each in characters):
        return "".join(table[each] for each in characters) + after
    return (f"{kind}{text}" if re.fullmatch(r"\w+|∞", text) else f"{kind}({text})") + after


def _has_words(node: Any) -> bool:
    """Whether the letters are a word, which would be hard to read as a script."""
    inside = getattr(node, "nodelist", [node])
    return any(getattr(each, "macroname", None) in _WORDS | _NAMES for each in inside)


def _environment(node: Any) -> str:
    """Cases or a matrix on one line."""
    if node.environmentname not in _ENVIRONMENTS:
        raise ValueError(f"latex: unknown environment {node.environmentname!r}")
    before, between, next_row, after = _ENVIRONMENTS[node.environmentname]
    rows = [between.join(_joined(cell) for cell in row) for row in _rows(node.nodelist)]
    return before + next_row.join(rows).replace(" for else", " else") + after


@functools.cache
def _symbol(name: str) -> str:
    """The symbol of a macro without arguments."""
    known = _names().get_macro_spec(name)
    if text := getattr(known, "simplify_repl", None):
        return str(text)
    raise ValueError(f"latex: unknown macro \\{name}")


@functools.cache
def _grammar() -> LatexContextDb:
    """The grammar of macros, with those of `amsmath` that the parser lacks."""
    grammar = latexwalker.get_default_latex_context_db()
    macros = [MacroSpec("tfrac", "{{"), MacroSpec("operatorname", "{")]
    grammar.add_context_category("ours", macros=macros, prepend=True)
    return grammar
