"""Shared parts of the exercises of Géron's chapter 11: training, options, data, results."""

import argparse
import functools
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from rich.console import Console
from rich.table import Table

import jaxopt_cards as jc
from jaxopt_cards import data, pictures, reports, training, transfer

BATCH, PATIENCE, EPOCHS = 20, 20, 1000
# For the rows with all of the chapter's techniques; units are tuned, as in 8.3.
ADAM = functools.partial(jc.adamw, weight_decay=0.01)
TOOLBOX = {"units": (400,) * 3, "activation": "relu", "batch_norm": True, "dropout_rate": 0.1}


@dataclass
class Row:
    """One row of the table of results, with a result for each seed."""

    row: str  # the exercise's number
    what: str
    notebook: float | None  # the accuracy that the book's notebook prints, in percent
    accuracy: list[float] = field(default_factory=list)  # of the test set, in percent
    seconds: list[float] = field(default_factory=list)  # of training, without compilation
    results: list[training.FitResult] = field(default_factory=list)

    @property
    def histories(self) -> list[training.History]:
        """One accuracy for each seed."""
        return [result.history for result in self.results]

    def train(
        self, model: nnx.Module, tx: jc.GradientTransformation, task: data.Splits, seed: int, **more
    ) -> training.FitResult:
        """Trains with early stopping, as in the chapter, and adds the result to the row."""
        settings = {"batch_size": BATCH, "patience": PATIENCE, "epochs": EPOCHS} | more
        return self._ended(training.fit, task, model, tx, seed=seed, **settings)

    def fine_tune(
        self, model: nnx.Module, task: data.Splits, seed: int, **settings
    ) -> training.FitResult:
        """Fine-tunes the head, then all layers, and adds the result to the row."""
        return self._ended(transfer.fine_tune, task, model, ADAM, seed=seed, **settings)

    def _ended(
        self, train: Callable[..., training.FitResult], task: data.Splits, *args, **settings
    ) -> training.FitResult:
        """Trains and evaluates on the test set, which is used nowhere else."""
        print(f"{self.row}, {self.what}", flush=True)
        result = train(*args, train=task.train, valid=task.valid, **settings)
        self.accuracy.append(100 * training.evaluate(result.model, *task.test)["accuracy"])
        self.seconds.append(result.seconds)
        # Without the state for resuming, which is more than twice the parameters.
        self.results.append(replace(result, last=None, opt_state=None))
        return result


@functools.cache  # one object for all seeds, which then share the compiled program
def moved(name: str, strength: float = 1.0) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """The toolbox's augmentation: shift, rotation, scale and elastic deformation."""
    side = 28 if name == "mnist" else 8
    return data.augment(
        (side, side),
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
    return jc.adamw(optax.cosine_onecycle_schedule(steps, rate), weight_decay=weight_decay)


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


def report(rows: Sequence[Row], settings: dict, folder: Path) -> None:
    """Prints the table, and writes results.json and the learning curves into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = settings | {"batch_size": BATCH, "patience": PATIENCE} | surroundings()
    kept = ("row", "what", "accuracy", "seconds", "notebook")
    results = {
        "settings": settings,
        "rows": [{key: getattr(row, key) for key in kept} for row in rows],
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    draw_curves(rows, folder / "learning_curves.png")
    print_table(results)
    print(f"Wrote results.json and learning_curves.png into {folder}/")


def write_page(
    options: argparse.Namespace,
    description: str,
    rows: Sequence[Row],
    settings: dict,
    figures: Mapping[str, str],
    text: str = "",
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
    path = reports.report(
        {f"{row.row}, {row.what}": row.results for row in rows},
        options.output / "report.html",
        title=description.splitlines()[0].rstrip("."),
        settings=settings | {"batch_size": BATCH, "patience": PATIENCE},
        tables={f"Test accuracy on {settings['data']}": lines},
        figures={caption: options.output / name for caption, name in figures.items()},
        text=text,
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


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Draws validation accuracy by epoch, with a panel for each row and a line for each seed."""
    figure, panels = panels_of(rows)
    for axis, row in zip(panels, rows, strict=True):
        for history in row.histories:
            epochs = np.arange(1, len(history.valid_accuracy) + 1)
            axis.plot(epochs, 100 * history.valid_accuracy, lw=1, color="#0072b2", alpha=0.7)
            best = int(np.nanargmin(history.valid_loss))
            axis.plot(best + 1, 100 * history.valid_accuracy[best], "o", ms=4, color="#d55e00")
    figure.supylabel("validation accuracy, %", fontsize=9)
    figure.suptitle("Each line is a seed; the dot is the epoch that early stopping keeps")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_losses(rows: Sequence[Row], path: Path) -> None:
    """Draws training and validation loss of the first seed; their distance is overfitting."""
    figure, panels = panels_of(rows)
    for axis, row in zip(panels, rows, strict=True):
        history = row.histories[0]
        epochs = np.arange(1, len(history.valid_loss) + 1)
        axis.semilogy(epochs, history.train_loss, "--", lw=1, color="#d55e00", label="training")
        axis.semilogy(epochs, history.valid_loss, lw=1, color="#0072b2", label="validation")
    panels[0].legend(fontsize=8, frameon=False)
    figure.supylabel("loss", fontsize=9)
    figure.suptitle("Training loss far below validation loss: the network overfits")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_errors(model: nnx.Module, examples: data.Examples, path: Path, classes: str) -> None:
    """Draws the most certain mistakes, with their class and the prediction."""
    logits = training.predict(model, examples.x)
    guess, rows = logits.argmax(axis=1), np.arange(len(logits))
    order = np.argsort(logits[rows, examples.y] - logits[rows, guess], kind="stable")
    figure, axis = plt.subplots(figsize=(9, 2.4), layout="constrained")
    wrong = (examples.x[order], examples.y[order], guess[order])
    pictures.misclassified(axis, *wrong, classes)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def panels_of(rows: Sequence[Row]) -> tuple[plt.Figure, list[plt.Axes]]:
    """Makes a panel for each row, with its name."""
    columns = min(len(rows), 4)
    lines = -(-len(rows) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.2 * columns, 2.6 * lines), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(rows) :]:
        axis.set_axis_off()
    panels = list(axes.flat[: len(rows)])
    for axis, row in zip(panels, rows, strict=True):
        axis.set_title(f"{row.row}: {row.what}", fontsize=9)
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
    return figure, panels
