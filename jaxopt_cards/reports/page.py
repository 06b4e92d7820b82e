"""A self-contained HTML page of tables, pictures and text, all escaped."""

import base64
import html
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_cards.core.checks import HyperparameterError, escaped
from jaxopt_cards.reports.page_style import STYLE

NOTHING = "–"
_KINDS = {".png": "image/png", ".svg": "image/svg+xml", ".jpg": "image/jpeg", ".gif": "image/gif"}
# The browser refuses scripts and anything that is not in the file.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def escape(text: str) -> str:
    """Text for a page, with HTML and invalid characters, such as surrogates, escaped."""
    return html.escape(escaped(text, None, lines=True))


class Section(NamedTuple):
    """A part of the page under a heading; `body` is HTML."""

    heading: str
    body: str


class Drawn(NamedTuple):
    """A picture as bytes; `dark` is its version for dark mode, if there is one."""

    kind: str  # media type
    light: bytes
    dark: bytes | None
    alt: str
    width: int | None = None  # in pixels of the page; `None`: the picture's own


def page(title: str, written: str, text: str, sections: Sequence[Section], footer: str) -> str:
    """The whole file."""
    places = {section: f"part-{number}" for number, section in enumerate(sections, 1)}
    contents = "".join(
        f'<li><a href="#{place}">{escape(section.heading)}</a></li>'
        for section, place in places.items()
    )
    parts = "\n".join(
        f'<section aria-labelledby="{place}">\n<h2 id="{place}">{escape(section.heading)}</h2>\n'
        f"{section.body}\n</section>"
        for section, place in places.items()
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="soft">Written <time datetime="{escape(written)}">{escape(written)}</time></p>
{paragraph(text)}
<nav aria-label="Contents"><ul>{contents}</ul></nav>
</header>
<main>
{parts}
</main>
<footer>{escape(footer)}</footer>
</body>
</html>
"""


def paragraph(text: str) -> str:
    """A paragraph that keeps line breaks; empty for empty text."""
    return f'<p class="text">{escape(text)}</p>' if text else ""


def table(caption: str, rows: Sequence[Mapping[str, Any]], total: Sequence[str] = ()) -> str:
    """A row for each mapping, with its keys as headings; the first cell names the row.

    Columns of numbers are right-aligned. `total` is a separate last row.
    """
    numbers = {name: not any(isinstance(row[name], str) for row in rows) for name in rows[0]}
    classes = [' class="number"' if number else "" for number in numbers.values()]
    headings = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for name, kind in zip(rows[0], classes, strict=True)
    )
    lines = "\n".join(_row([shown(cell) for cell in row.values()], classes) for row in rows)
    foot = f"\n<tfoot>{_row(total, classes)}</tfoot>" if total else ""
    # A scrollable region must be reachable by keyboard, and therefore needs a name.
    return (
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table>\n'
        f"<caption>{escape(caption)}</caption>\n<thead><tr>{headings}</tr></thead>\n"
        f"<tbody>\n{lines}\n</tbody>{foot}\n</table></div>"
    )


def _row(cells: Sequence[str], classes: Sequence[str]) -> str:
    (name, *others), (first, *kinds) = cells, classes
    rest = "".join(
        f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(others, kinds, strict=True)
    )
    return f'<tr><th scope="row"{first}>{escape(name)}</th>{rest}</tr>'


def shown(value: Any) -> str:
    """The text of a cell; several numbers become mean and standard deviation."""
    if isinstance(value, str):
        return value
    if value is None:
        return NOTHING
    if isinstance(value, bool | np.bool):
        return "yes" if value else "no"
    if np.ndim(value) == 1 and np.asarray(value).dtype.kind in "iuf" and len(value):
        return mean_and_deviation(value)
    if np.ndim(value) == 0 and np.asarray(value).dtype.kind in "f":
        return NOTHING if np.isnan(value) else f"{value:.4g}"
    return described(value)


def mean_and_deviation(values: Sequence[float]) -> str:
    """`mean ± standard deviation`, to the second digit of the deviation; one value without it."""
    mean = float(np.mean(values))
    if len(values) == 1 or not np.isfinite(mean):
        return shown(mean)
    deviation = float(np.std(values, ddof=1))
    if deviation <= 1e-6 * abs(mean):  # beyond the digits of float32
        return f"{mean:.4g} ± 0"
    exponent = int(f"{deviation:.1e}".partition("e")[2])  # after rounding: 0.0996 is 0.10
    digits = min(max(1 - exponent, 0), 9)
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def described(value: Any) -> str:
    """A setting as text: mappings by their items, functions by their names."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {described(part)}" for key, part in value.items())
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return ", ".join(map(described, value))
    return getattr(value, "__qualname__", None) or str(value)


def figure(drawn: Drawn, caption: str = "") -> str:
    """A picture, with light and dark versions if there are both."""
    if drawn.dark is None:
        images = _image(drawn, drawn.light, "paper")
    else:
        # CSS chooses between the two: a `<picture>` would also print the dark one.
        images = _image(drawn, drawn.light, "light") + _image(drawn, drawn.dark, "dark")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{images}{below}</figure>"


def _image(drawn: Drawn, content: bytes, kind: str) -> str:
    width = "" if drawn.width is None else f' width="{drawn.width}"'
    source = f"data:{drawn.kind};base64,{base64.b64encode(content).decode()}"
    return f'<img class="{kind}"{width} src="{source}" alt="{escape(drawn.alt)}">'


def figures(*pictures: str) -> str:
    """Pictures side by side, if there is room."""
    return f'<div class="figures">{"".join(pictures)}</div>'


def from_file(path: str | os.PathLike) -> Drawn:
    """A picture from disk."""
    path = Path(path)
    if path.suffix.lower() not in _KINDS:
        raise HyperparameterError("figures", f"be files of {list(_KINDS)}", str(path))
    return Drawn(_KINDS[path.suffix.lower()], path.read_bytes(), None, path.stem.replace("_", " "))


def details(summary: str, body: str) -> str:
    """A part of the page that can be unfolded."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}\n</details>"


def preformatted(text: str, *, wrap: bool = False) -> str:
    """Preformatted text, to be copied."""
    kind = ' class="wrap"' if wrap else ""
    return f'<pre{kind} tabindex="0">{escape(text)}</pre>'


def check_writable(path: str | os.PathLike) -> Path:
    """Raises if a file cannot be written to the path."""
    target = Path(path)
    if target.is_dir():
        raise HyperparameterError("path", "be a file, not a folder", str(path))
    if not target.parent.is_dir():
        raise HyperparameterError("path", "be in an existing folder", str(path))
    return target


def write_whole(path: Path, text: str) -> None:
    """Writes the file atomically."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
