"""`python -m tests.bench [epochs] [training] [steps] [imports]`: our speed, as ratios."""

import argparse
import importlib
import json
import os
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.comparison import Comparison

TOPICS = ("epochs", "training", "steps", "imports")


def main() -> None:
    """Runs the comparisons and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="topic", help=f"of {', '.join(TOPICS)}")
    parser.add_argument("--output", type=Path, help="a JSON file to write the medians to")
    arguments = parser.parse_args()
    topics = arguments.topics or TOPICS
    if unknown := set(topics) - set(TOPICS):
        parser.error(f"no such topic: {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
    results = [
        result
        for topic in topics
        for result in importlib.import_module(f"tests.bench.{topic}").comparisons()
    ]
    console = Console(highlight=False)
    console.width = max(console.width, 130)
    console.print(_table(results))
    if arguments.output:
        arguments.output.write_text(json.dumps(_as_json(results), indent=1) + "\n")


def _table(results: list[Comparison]) -> Table:
    table = Table(title=f"Medians, in milliseconds, on {_machine()}")
    table.add_column("ours")
    table.add_column("against")
    for heading in ("ours, ms", "theirs, ms", "times faster", "half of the rounds"):
        table.add_column(heading, justify="right")
    for result in results:
        low, median, high = np.quantile(result.ratios, [0.25, 0.5, 0.75])
        milliseconds = (f"{1e3 * np.median(c):.2f}" for c in (result.ours, result.theirs))
        spread = f"{low:.2f}–{high:.2f}" if len(result.ratios) > 1 else ""
        table.add_row(result.what, result.baseline, *milliseconds, f"{median:.2f}", spread)
    return table


def _as_json(results: list[Comparison]) -> dict:
    rows = [
        {
            "ours": result.what,
            "against": result.baseline,
            "seconds": float(np.median(result.ours)),
            "times faster": float(np.median(result.ratios)),
        }
        for result in results
    ]
    return {"machine": _machine(), "rows": rows}


def _machine() -> str:
    return f"{os.cpu_count()} cores, {jax.devices()[0].device_kind}, JAX {jax.__version__}"


if __name__ == "__main__":
    main()
