"""What the examples on one topic share: command line, images, runs over seeds, table, pictures."""

import argparse
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import optax
from chapter import mean_and_deviation, surroundings
from flax import nnx
from rich.console import Console
from rich.table import Table

from jaxopt_cards import data, layers, training

# Of MNIST, so that a comparison of many takes a minute: few enough that regularisation shows.
TRAIN, VALID, TEST = 5000, 1000, 2000


@dataclass(frozen=True)
class Variant:
    """One row of a comparison: the same runs with other seeds."""

    name: str
    results: Sequence[training.FitResult]
    accuracy: Sequence[float]  # of the test set, in percent

    @property
    def histories(self) -> list[training.History]:
        """One for each seed."""
        return [result.history for result in self.results]

    @property
    def loss(self) -> float:
        """The mean of the best validation losses: what choices are made by."""
        return float(np.mean([np.nanmin(history.valid_loss) for history in self.histories]))


@dataclass(frozen=True)
class Topic:
    """The options of an example, and its images."""

    name: str
    title: str
    options: argparse.Namespace
    images: data.Splits

    @classmethod
    def of(cls, description: str, epochs: int, seeds: int = 3) -> "Topic":
        """Reads the command line: the first line of the description is the title."""
        title = description.strip().splitlines()[0]
        name = Path(sys.argv[0]).stem
        folder = Path("output", name)
        parser = argparse.ArgumentParser(description=title)
        parser.add_argument(
            "--data",
            choices=["digits", "mnist"],
            default="digits",
            help=f"scikit-learn's small digits, or a slice of MNIST ({TRAIN} images to train on)",
        )
        parser.add_argument("--seeds", type=int, default=seeds, help=f"runs, default {seeds}")
        parser.add_argument("--epochs", type=int, default=epochs, help=f"default {epochs}")
        parser.add_argument("--output", type=Path, default=folder, help=f"default {folder}")
        parser.add_argument("--report", action="store_true", help="write report.html as well")
        options = parser.parse_args()
        for option in ("seeds", "epochs"):
            if getattr(options, option) < 1:
                got = getattr(options, option)
                parser.error(f"--{option} must be at least 1, got {got}")
        options.output.mkdir(parents=True, exist_ok=True)
        return cls(name, title, options, _images(options.data))

    def mlp(self, **settings) -> functools.partial:
        """Makes the chapter's network for these images, from `rngs`."""
        classes = int(self.images.train.y.max()) + 1
        return functools.partial(layers.MLP, self.images.train.x.shape[1], classes, **settings)

    def train(
        self, name: str, make: functools.partial, tx: optax.GradientTransformation, **settings
    ) -> Variant:
        """Trains one model for each seed, all in one compiled program."""
        print(name, flush=True)
        seeds = range(self.options.seeds)
        models = [make(rngs=nnx.Rngs(seed)) for seed in seeds]
        settings = {"epochs": self.options.epochs, "progress": False} | settings
        results = training.fit_many(
            models, tx, train=self.images.train, valid=self.images.valid, seeds=seeds, **settings
        )
        return Variant(name, results, [self.accuracy(result.model) for result in results])

    def accuracy(self, model: nnx.Module) -> float:
        """Of the test set, in percent."""
        return 100 * training.evaluate(model, *self.images.test)["accuracy"]

    def finish(
        self,
        rows: Sequence[Mapping[str, str | float | Sequence[float]]],
        figures: Mapping[str, plt.Figure],
        conclusion: str,
        **settings,
    ) -> None:
        """Prints the table, and writes it, results.json and the pictures into the folder."""
        folder = self.options.output
        options = {"data": self.options.data, "seeds": self.options.seeds}
        settings = options | {"epochs": self.options.epochs} | settings | surroundings()
        results = {"title": self.title, "settings": settings, "rows": list(rows)}
        results["conclusion"] = conclusion
        (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        _print_table(f"{self.title} ({self.options.data})", rows)
        print(conclusion)
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=150)
        if self.options.report:
            training.report(
                None,
                folder / "report.html",
                title=self.title,
                settings=settings,
                figures=figures,
                tables={"Results": rows},
                text=conclusion,
            )
        for figure in figures.values():
            plt.close(figure)
        print(f"Wrote results.json and {', '.join(f'{name}.png' for name in figures)} to {folder}/")


def _images(name: str) -> data.Splits:
    """All of the small digits, or the first images of MNIST."""
    if name == "digits":
        return data.digits()
    counts = (TRAIN, VALID, TEST)
    return data.Splits(
        *(
            data.Examples(*(part[:n] for part in split))
            for split, n in zip(data.mnist(), counts, strict=True)
        )
    )


def _print_table(title: str, rows: Sequence[Mapping[str, str | float | Sequence[float]]]) -> None:
    """Text to the left, numbers to the right, several numbers as mean and deviation."""
    table = Table(title=title)
    for heading, value in rows[0].items():
        table.add_column(heading, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*map(shown, row.values()))
    Console(highlight=False).print(table)


def shown(value: str | float | Sequence[float]) -> str:
    """A cell of a table."""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return mean_and_deviation(value, 2)
    return f"{value:.4g}"
