"""Docstrings as pages: arguments as code, a paragraph for when to use a technique, and when not."""

import inspect
import re

from sphinx.application import Sphinx


def process(app: Sphinx, what: str, name: str, thing, options, lines: list[str]) -> None:
    """Called for each docstring, before its sections are read."""
    text = "\n".join(lines)
    text = re.sub(r"^(Use when|Avoid when): ", r"\n**\1**: ", text, flags=re.MULTILINE)
    # A word in backquotes leads to what has that name; an argument's name is only that.
    try:
        arguments = "|".join(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        arguments = ""
    if arguments:
        text = re.sub(rf"(?<![`:])`({arguments})`(?!`)", r"``\1``", text)
    lines[:] = text.split("\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", process, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
