"""`python -m tests.bench [epochs] [steps] [imports]`: prints how fast we are, as ratios."""

import argparse
import importlib

import jax
import numpy as np
from rich.console import Console
from rich.table import Table

TOPICS = ("epochs", "steps", "imports")


def main() -> None:
    """Runs the comparisons and prints a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="topic", help=f"of {', '.join(TOPICS)}")
    topics = parser.parse_args().topics or TOPICS
    if unknown := set(topics) - set(TOPICS):
        parser.error(f"no such topic: {', '.join(sorted(unknown))}; there are {', '.join(TOPICS)}")
    device = jax.devices()[0].device_kind
    table = Table(title=f"Medians, in milliseconds, on {device} with JAX {jax.__version__}")
    table.add_column("ours")
    table.add_column("against")
    for heading in ("ours, ms", "theirs, ms", "times faster", "half of the rounds"):
        table.add_column(heading, justify="right")
    for topic in topics:
        for result in importlib.import_module(f"tests.bench.{topic}").comparisons():
            low, median, high = np.quantile(result.ratios, [0.25, 0.5, 0.75])
            milliseconds = (
                f"{1e3 * np.median(column):.2f}" for column in (result.ours, result.theirs)
            )
            table.add_row(
                result.what,
                result.baseline,
                *milliseconds,
                f"{median:.2f}",
                f"{low:.2f}–{high:.2f}",
            )
    console = Console(highlight=False)
    console.width = max(console.width, 130)
    console.print(table)


if __name__ == "__main__":
    main()
