"""Writes sentences from the results of the examples into pages: `python docs/pages.py`.

A page marks the place: `<!-- questions: 3 -->` and `<!-- end -->` stand around the sentences of the
rows of `results/questions` that begin with "3"; `<!-- schedule_comparison -->` around a conclusion.
"""

import json
import re
from pathlib import Path

DOCS = Path(__file__).parent
PAGES = ("questions.md", "how_to_choose.md", "guides/reusing_a_trained_network.md")
PART = re.compile(r"<!-- (\w+)(?:: ([^>]*))? -->\n(.*?)<!-- end -->", re.DOTALL)


def said(example: str, key: str | None) -> str:
    """The sentences of the rows with this key, as a list; without a key, the conclusion."""
    results = json.loads((DOCS / "results" / example / "results.json").read_text())
    if key is None:
        return results.get("finding", results.get("conclusion")) + "\n"
    rows = [row for row in results["rows"] if next(iter(row.values())) == key]
    assert rows, f"{example} has no row {key}"
    return "".join(f"- {row['says']}\n" for row in rows)


def updated(page: str) -> str:
    """The page with its marked parts as they should be."""

    def part(match: re.Match) -> str:
        example, key, _ = match.groups()
        mark = match.group().partition("\n")[0]
        return f"{mark}\n{said(example, key)}<!-- end -->"

    return PART.sub(part, page)


if __name__ == "__main__":
    for name in PAGES:
        path = DOCS / name
        path.write_text(updated(path.read_text()))
