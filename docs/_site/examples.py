"""The examples as Sphinx-Gallery wants them: a heading, then what the last run of each gave."""

import json
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HELPERS = {"chapter", "chapter_pictures", "row_settings", "topic_pictures", "topics"}
HEADERS = {
    "": ("The examples", "Each is one file that prints a table and writes its pictures."),
    "exercises": ("Exercises", "The programming exercises of Géron's chapter 11."),
    "topics": (
        "Topics",
        "Other topics of Géron's chapter 11, on scikit-learn's digits or on MNIST.",
    ),
    "shared": ("What they share", "Command line, network, table and pictures."),
}


def write(app: Sphinx) -> None:
    """Writes all examples with their results into `_generated/sources`."""
    docs = Path(app.srcdir)
    folder = docs / "_generated" / "sources"
    for section, (title, text) in HEADERS.items():
        (folder / section).mkdir(parents=True, exist_ok=True)
        header = f"{title}\n{'=' * len(title)}\n\n{text}\n"
        _write(folder / section / "GALLERY_HEADER.rst", header)
    for path in sorted((docs.parent / "examples").glob("*.py")):
        _write(folder / section_of(path.stem) / path.name, _source(path, docs / "results"))


def section_of(stem: str) -> str:
    if stem in HELPERS:
        return "shared"
    return "exercises" if stem.startswith("exercise") else "topics"


def _source(path: Path, results: Path) -> str:
    """The example's text, its docstring as a page, and the picture for the gallery."""
    docstring, code = _parts(path)
    sentence, _, text = docstring.partition("\n")
    title = title_of(path)
    rest = sentence.removeprefix(title).strip(":. ")
    parts = [f"{title}\n{'=' * len(title)}"]
    if rest:
        parts.append(f"{rest[0].upper()}{rest[1:]}.")
    parts += [_command(paragraph) for paragraph in text.strip().split("\n\n")]
    folders = _folders(path.stem, results)
    for folder in folders:
        parts += _results(folder, several=len(folders) > 1)
    pictures = [picture for folder in folders for picture in sorted(folder.glob("*.png"))]
    thumbnail = ""
    if pictures:
        where = pictures[-1].relative_to(results.parent)
        thumbnail = f'# sphinx_gallery_thumbnail_path = "{where}"\n'
    page = "\n\n".join(parts)
    return f'r"""\n{page}\n\n.. rubric:: The code\n"""\n{thumbnail}{code}'


def title_of(path: Path) -> str:
    """The first line of an example's docstring; of a topic, what stands before the colon."""
    sentence = _parts(path)[0].partition("\n")[0].rstrip(".")
    return sentence if section_of(path.stem) == "exercises" else sentence.partition(": ")[0]


def _parts(path: Path) -> tuple[str, str]:
    """The docstring of an example, and its code."""
    return re.match(r'r?"""(.*?)"""\n(.*)', path.read_text(), re.DOTALL).groups()


def _folders(stem: str, results: Path) -> list[Path]:
    """Where the results of an example are kept: digits, MNIST, or one of them."""
    exercise = re.match(r"exercise_\d+", stem)
    names = [exercise.group()] if exercise else [stem, f"{stem}_mnist"]
    return [results / name for name in names if (results / name).is_dir()]


def _command(paragraph: str) -> str:
    """A paragraph as it is, or as the command that it is."""
    if not paragraph.startswith("python "):
        return paragraph
    return ".. code-block:: sh\n\n" + re.sub(r"^", "    ", paragraph, flags=re.MULTILINE)


def _results(folder: Path, several: bool) -> list[str]:
    """Table, conclusion and pictures; an exercise's are on the page of the exercises."""
    parts, file = [], folder / "results.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    if folder.name.startswith("exercise"):
        parts.append("Its table: :doc:`/exercises`.")
    elif "conclusion" in results:  # of a topic; others tell by their pictures alone
        if several:
            parts.append(f".. rubric:: On {results['settings']['data']}")
        parts += [_table(results["rows"]), _escaped(results["conclusion"])]
    for picture in sorted(folder.glob("*.png")):
        alt = f"{picture.stem.replace('_', ' ')}, {folder.name.replace('_', ' ')}"
        where = f"/results/{folder.name}/{picture.name}"
        parts.append(f".. image:: {where}\n   :alt: {alt}")
    return parts


def _table(rows: list[dict]) -> str:
    """The rows as the example prints them."""
    from topics import shown

    lines = [".. list-table::", "   :header-rows: 1", ""]
    told = [[shown(value, heading) for heading, value in row.items()] for row in rows]
    for cells in [list(rows[0]), *told]:
        for number, cell in enumerate(cells):
            lines.append(f"   {'*' if number == 0 else ' '} - {_escaped(cell)}")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Plain text for reStructuredText."""
    return re.sub(r"([\\*|]|_\b)", r"\\\1", text)


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    sys.path.insert(0, str(Path(app.srcdir).parent / "examples"))
    app.connect("builder-inited", write, priority=400)  # before Sphinx-Gallery
    return {"parallel_read_safe": True, "parallel_write_safe": True}
