"""Shared parts of the exercises of Géron's chapter 11: training, options, data, results."""

import argparse
import functools
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table
from row_settings import Made, flat, settings_of

import jaxopt_cards as jc
from jaxopt_cards import data, reports, training, transfer
from jaxopt_cards.storage.environment import environment

BATCH, PATIENCE, EPOCHS = 20, 20, 1000
# For the rows with all of the chapter's techniques; units are tuned, as in 8.3.
ADAM = functools.partial(jc.adamw, weight_decay=0.01)
TOOLBOX = {"units": (400,) * 3, "activation": "relu", "batch_norm": True, "dropout_rate": 0.1}


def accuracy_of(model: nnx.Module, examples: data.Examples) -> float:
    """The share of examples that a classifier gets right."""
    return training.evaluate(model, *examples)["accuracy"]


@dataclass
class Row:
    """One row of the table of results, with a result for each seed.

    Only rows to the letter are compared with the notebook: they do what the exercise says, and
    nothing else.
    """

    row: str  # the exercise's number
    what: str
    notebook: float | None = None  # the accuracy that the book's notebook prints, in percent
    accuracy: list[float] = field(default_factory=list)  # of the test set, in percent
    seconds: list[float] = field(default_factory=list)  # of training, without compilation
    results: list[training.FitResult] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)  # with which it was trained

    @property
    def histories(self) -> list[training.History]:
        """One for each seed."""
        return [result.history for result in self.results]

    @property
    def epochs(self) -> list[int]:
        """The number of epochs of each seed."""
        return [len(history.seconds) for history in self.histories]

    def train(
        self,
        model: nnx.Module,
        tx: jc.GradientTransformation,
        task: data.Splits,
        seed: int,
        *,
        kept: Literal["best epoch", "last epoch"] = "best epoch",
        accuracy: Callable[[nnx.Module, data.Examples], float] = accuracy_of,
        **more,
    ) -> training.FitResult:
        """Trains with early stopping, as in the chapter, and adds the result to the row."""
        settings = {"batch_size": BATCH, "patience": PATIENCE, "epochs": EPOCHS} | more
        self._starts(model, tx, task, settings | {"kept": kept})
        result = training.fit(model, tx, train=task.train, valid=task.valid, seed=seed, **settings)
        if kept == "last epoch":
            result = replace(result, model=result.last, best_epoch=len(result.history.seconds))
        return self._ended(result, accuracy(result.model, task.test))

    def fine_tune(
        self, model: nnx.Module, task: data.Splits, seed: int, **settings
    ) -> training.FitResult:
        """Fine-tunes the head, then all layers, and adds the result to the row."""
        self._starts(model, ADAM, task, settings | {"patience": None, "kept": "best epoch"})
        result = transfer.fine_tune(
            model, ADAM, train=task.train, valid=task.valid, seed=seed, **settings
        )
        return self._ended(result, accuracy_of(result.model, task.test))

    def _starts(self, model: nnx.Module, tx: Any, task: data.Splits, used: dict[str, Any]) -> None:
        """Records what the row is trained with."""
        print(f"{self.row}, {self.what}", flush=True)
        used.pop("checkpoints", None)
        self.settings = settings_of(model, tx, task.train, used)

    def _ended(self, result: training.FitResult, accuracy: float) -> training.FitResult:
        """Adds a result; its accuracy is that of the test set, which is used nowhere else."""
        self.accuracy.append(100 * accuracy)
        self.seconds.append(result.seconds)
        # Without the state for resuming, which is more than twice the parameters.
        self.results.append(replace(result, last=None, opt_state=None))
        return result


@functools.cache  # one object for all seeds, which then share the compiled program
def moved(name: str, strength: float = 1.0) -> Made:
    """The toolbox's augmentation: shift, rotation, scale and elastic deformation."""
    side = 28 if name == "mnist" else 8
    return Made(
        data.augment,
        image_shape=(side, side),
        shift=side / 14,
        rotation=10 * strength,
        scale=0.1 * strength,
        elastic=strength * side / 28,
    )


@functools.cache
def one_cycle(
    rate: float, examples: int, batch_size: int, epochs: int, weight_decay: float = 0.01
) -> jc.GradientTransformation:
    """AdamW with warm-up and cosine decay."""
    steps = epochs * -(-examples // batch_size)
    cycle = Made(optax.cosine_onecycle_schedule, transition_steps=steps, peak_value=rate)
    return jc.adamw(cycle, weight_decay=weight_decay)


def arguments(description: str) -> argparse.Namespace:
    """The options of all exercises."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--data",
        choices=["mnist", "digits"],
        help="default: MNIST where it is on disk (JAXOPT_CARDS_DATA or the cache), else digits",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs, default 1")
    folder = Path("output", Path(sys.argv[0]).stem)
    parser.add_argument(
        "--output", type=Path, default=folder, metavar="DIR", help=f"default {folder}"
    )
    parser.add_argument("--report", action="store_true", help="write report.html as well")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {options.seeds}")
    return options


def images(name: str | None) -> tuple[str, data.Splits]:
    """The name of the data, and all splits."""
    if name is None:
        try:
            return "mnist", data.mnist(download=False)
        except FileNotFoundError:
            name = "digits"
    return name, data.mnist() if name == "mnist" else data.digits()


def tasks(name: str | None) -> tuple[str, data.Splits, data.Splits]:
    """The name of the data; task A, digits 0 to 4; and task B, few examples of digits 5 to 9."""
    name, splits = images(name)
    task_a = data.Splits(*(data.subset(split, range(5)) for split in splits))
    train, valid, test = (data.subset(split, range(5, 10)) for split in splits)
    few_train, few_valid = (100, 30) if name == "mnist" else (20, 10)
    task_b = data.Splits(data.per_class(train, few_train), data.per_class(valid, few_valid), test)
    return name, task_a, task_b


def surroundings() -> dict[str, str]:
    """Versions and devices, on which results may depend."""
    return {
        "jax": jax.__version__,
        "jaxopt_cards": version("jaxopt_cards"),
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
    }


def timing() -> dict[str, Any]:
    """What seconds depend on: threads, cores, and the processes that wanted a core meanwhile."""
    return {
        "threads": environment({}).get("threads"),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[2], 1),
    }


def report(
    rows: Sequence[Row], settings: dict, folder: Path, answers: Mapping[str, str]
) -> dict[str, str]:
    """Prints the table and the answers, which it returns, and writes results.json."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = ("row", "what", "settings", "accuracy", "seconds", "epochs", "notebook")
    if settings["data"] == "mnist":
        answers = {"Notebook": beside_notebook(rows), **answers}
    results = {
        "settings": settings | surroundings() | timing(),
        "rows": [{key: getattr(row, key) for key in kept} for row in rows],
        "answers": answers,
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    print_table(results)
    for question, answer in answers.items():
        print(f"{question}: {answer}")
    print(f"Wrote results.json and pictures into {folder}/")
    return dict(answers)


def beside_notebook(rows: Sequence[Row]) -> str:
    """Which rows to the letter have a mean below the notebook's number."""
    compared = [row for row in rows if row.notebook is not None]
    below = [
        f"{row.row} ({np.mean(row.accuracy):.2f} % against {row.notebook:.2f} %)"
        for row in compared
        if np.mean(row.accuracy) < row.notebook
    ]
    if not below:
        return f"All {len(compared)} rows to the letter have a mean above the notebook's number."
    return (
        f"Of {len(compared)} rows to the letter, these have a mean below the notebook's number: "
        f"{', '.join(below)}."
    )


def difference(new: Row, old: Row) -> str:
    """How much higher or lower the accuracy of a row is than another's, to end a sentence."""
    return points_apart(new.accuracy, old.accuracy)


def points_apart(new: Sequence[float], old: Sequence[float]) -> str:
    """The mean difference of percentages, seed by seed.

    It counts as a difference if it exceeds two of its standard errors.
    """
    apart = np.subtract(new, old)
    mean = float(np.mean(apart))
    direction = "higher" if mean > 0 else "lower"
    if len(apart) == 1:
        return f"{abs(mean):.2f} points {direction} (one run)" if mean else "the same (one run)"
    error = np.std(apart, ddof=1) / len(apart) ** 0.5
    if abs(mean) <= 2 * error:
        return f"the same within the spread of the seeds ({mean:+.2f} ± {error:.2f} points)"
    return f"{abs(mean):.2f} ± {error:.2f} points {direction}"


def write_page(
    options: argparse.Namespace,
    description: str,
    rows: Sequence[Row],
    settings: dict,
    figures: Mapping[str, str],
    answers: Mapping[str, str],
) -> None:
    """Writes the report if requested: table, runs, curves, and pictures of the folder."""
    if not options.report:
        return
    lines = [
        {
            "exercise": row.row,
            "what": row.what,
            "ours, %": row.accuracy,
            "seconds": row.seconds,
            "notebook, %": row.notebook,
        }
        for row in rows
    ]
    used = [{"exercise": row.row} | flat(row.settings) for row in rows]
    path = reports.report(
        {f"{row.row}, {row.what}": row.results for row in rows},
        options.output / "report.html",
        title=description.splitlines()[0].rstrip("."),
        settings=settings,
        tables={f"Test accuracy on {settings['data']}": lines, "Settings": used},
        figures={caption: options.output / name for caption, name in figures.items()},
        text="\n\n".join(f"{question}: {answer}" for question, answer in answers.items()),
    )
    print(f"Wrote {path}")


def print_table(results: dict) -> None:
    """The table of results: ours, and those of Géron's notebook."""
    seeds, name = results["settings"]["seeds"], results["settings"]["data"]
    table = Table(title=f"Test accuracy on {name}, {seeds} seed{'s' * (seeds > 1)}")
    table.add_column("exercise", no_wrap=True)
    table.add_column("what")
    for heading in ("ours, %", "seconds", "notebook, %"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in results["rows"]:
        table.add_row(
            row["row"],
            row["what"],
            mean_and_deviation(row["accuracy"], 2),
            mean_and_deviation(row["seconds"], 2),
            "–" if row["notebook"] is None else f"{row['notebook']:.2f}",
        )
    Console(highlight=False).print(table)
    if name != "mnist":
        print("The notebook's numbers are for MNIST, and cannot be compared with other data.")


def mean_and_deviation(values: Sequence[float], digits: int) -> str:
    """`mean ± standard deviation`, or a single value alone."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1):.{digits}f}"
