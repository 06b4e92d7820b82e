"""The tables of a report: results, layers, and versions."""

import csv
import io
import platform
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxopt_cards.core.paths import named
from jaxopt_cards.reports.inputs import Rows
from jaxopt_cards.training.inputs import array_kind
from jaxopt_cards.training.outcome import FitResult, History

Table = list[dict[str, Any]]
_ENDED = {
    "epochs": "all epochs done",
    "patience": "patience ran out",
    "not finite": "loss not finite",
}


def quality(rows: Rows, accuracy: Mapping[str, Sequence[float]]) -> Table:
    """Accuracies and losses of each row; several runs as a list of numbers."""
    several = any(len(results) > 1 for results in rows.values())
    lines = []
    for name, results in rows.items():
        best = [_best(result) for result in results]
        line: dict[str, Any] = {"run": name}
        if several:
            line["seeds"] = len(results)
        if name in accuracy:
            line["test accuracy, %"] = accuracy[name]
        line |= {
            "validation accuracy, %": [100 * numbers["valid_accuracy"] for numbers in best],
            "validation loss": [numbers["valid_loss"] for numbers in best],
            "training loss": [numbers["train_loss"] for numbers in best],
        }
        lines.append(line)
    return lines


def effort(rows: Rows) -> Table:
    """Epochs and seconds of each row, and why training ended."""
    return [
        {
            "run": name,
            "best epoch": _whole([result.best_epoch for result in results]),
            "epochs": _whole([result.epochs for result in results]),
            "ended": ", ".join(dict.fromkeys(_ENDED[result.stopped] for result in results)),
            "seconds": [result.seconds for result in results],
            "seconds to compile": [result.compile_seconds for result in results],
        }
        for name, results in rows.items()
    ]


def _whole(numbers: list[int]) -> int | list[int]:
    """A single number alone, which the page then does not round to four digits."""
    return numbers[0] if len(numbers) == 1 else numbers


def _best(result: FitResult) -> dict[str, float]:
    """The measurements of the best evaluation; NaN if there was none."""
    names = ("train_loss", "valid_loss", "valid_accuracy")
    if result.best_epoch == 0:
        return dict.fromkeys(names, float("nan"))
    return {name: float(getattr(result.history, name)[result.best_row]) for name in names}


def troubles(rows: Rows) -> list[str]:
    """What went wrong in each run."""
    return [
        f"{name}, run {number}: {result.trouble}"
        for name, results in rows.items()
        for number, result in enumerate(results, 1)
        if result.trouble
    ]


def every_epoch(rows: Rows) -> str:
    """All histories as CSV, with all digits."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = [name for name in History._fields if name != "epoch"]
    writer.writerow(["row", "run", "epoch", *names])
    for name, results in rows.items():
        for number, result in enumerate(results, 1):
            writer.writerows([name, number, *line] for line in _lines(result.history))
    return file.getvalue()


def _lines(history: History) -> list[tuple]:
    """The lines of the CSV, the epoch first: a whole number at the end of an epoch."""
    count = len(history.seconds)
    epochs = history.epoch if history.epoch.size else np.arange(1.0, count + 1)
    whole = [int(epoch) if epoch == int(epoch) else epoch for epoch in epochs.tolist()]
    steps = history.step.tolist() or [""] * count
    columns = (column.tolist() for column in history[:4])
    return list(zip(whole, *columns, steps, strict=True))


def layers(model: nnx.Module) -> tuple[Table, int]:
    """The layers that have parameters, in natural order, and the number of parameters."""
    kinds = {
        "/".join(map(str, path)): type(module).__name__ for path, module in nnx.iter_modules(model)
    }
    arrays: dict[str, dict[str, Any]] = {}
    for path, leaf in named(nnx.state(model, nnx.Param)):
        layer, _, name = path.rpartition("/")
        arrays.setdefault(layer, {})[name] = leaf
    lines: Table = [
        {
            "layer": layer or "(the model)",
            "kind": kinds.get(layer, ""),
            "parameters": sum(int(np.size(leaf)) for leaf in arrays[layer].values()),
            "arrays": _shapes(arrays[layer]),
        }
        for layer in sorted(arrays, key=_natural_order)
    ]
    return lines, sum(line["parameters"] for line in lines)


def _natural_order(layer: str) -> list[Any]:
    """Sorts `hidden10` after `hidden9`, by comparing numbers as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", layer)]


def _shapes(arrays: Mapping[str, Any]) -> str:
    """Names, shapes and dtypes; the kernel before the bias."""
    kernel_first = sorted(arrays, key=lambda name: np.ndim(arrays[name]), reverse=True)
    return ", ".join(f"{name} {array_kind(arrays[name])}" for name in kernel_first)


def surroundings() -> dict[str, str]:
    """Versions and devices, on which results may depend."""
    devices = jax.devices()
    packages = ("jaxopt_cards", "jax", "jaxlib", "flax", "optax", "numpy")
    return {name: version(name) for name in packages} | {
        "Python": platform.python_version(),
        "device": f"{len(devices)} × {devices[0].device_kind} ({devices[0].platform})",
        "machine": f"{platform.system()} {platform.machine()}",
    }
