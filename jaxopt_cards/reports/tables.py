"""The tables of a report: what came of the runs, the layers, and where it all ran."""

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
    """How good each row is; several runs as a list of numbers."""
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
    """How long each row took, and why it ended."""
    return [
        {
            "run": name,
            "best epoch": _whole([result.best_epoch for result in results]),
            "epochs": _whole([len(result.history.seconds) for result in results]),
            "ended": ", ".join(dict.fromkeys(_ENDED[result.stopped] for result in results)),
            "seconds": [result.seconds for result in results],
            "seconds to compile": [result.compile_seconds for result in results],
        }
        for name, results in rows.items()
    ]


def _whole(numbers: list[int]) -> int | list[int]:
    """A number alone as it is, not rounded to four digits."""
    return numbers[0] if len(numbers) == 1 else numbers


def _best(result: FitResult) -> dict[str, float]:
    """What was measured in the best epoch; NaN if there was none."""
    columns = result.history._asdict()
    if result.best_epoch == 0:
        return dict.fromkeys(columns, float("nan"))
    return {name: float(column[result.best_epoch - 1]) for name, column in columns.items()}


def troubles(rows: Rows) -> list[str]:
    """What went wrong, run by run."""
    return [
        f"{name}, run {number}: {result.trouble}"
        for name, results in rows.items()
        for number, result in enumerate(results, 1)
        if result.trouble
    ]


def every_epoch(rows: Rows) -> str:
    """All histories as CSV, every digit kept."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["row", "run", "epoch", *History._fields])
    for name, results in rows.items():
        for number, result in enumerate(results, 1):
            columns = np.transpose(result.history).tolist()
            writer.writerows([name, number, epoch, *line] for epoch, line in enumerate(columns, 1))
    return file.getvalue()


def layers(model: nnx.Module) -> tuple[Table, int]:
    """The layers that have parameters, as people count them; and how many numbers in all."""
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
        for layer in sorted(arrays, key=_as_people_count)
    ]
    return lines, sum(line["parameters"] for line in lines)


def _as_people_count(layer: str) -> list[Any]:
    """`hidden10` comes after `hidden9`: text and numbers in turn, so that like meets like."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", layer)]


def _shapes(arrays: Mapping[str, Any]) -> str:
    """Names, shapes and types; the kernel before the bias."""
    kernel_first = sorted(arrays, key=lambda name: np.ndim(arrays[name]), reverse=True)
    return ", ".join(f"{name} {array_kind(arrays[name])}" for name in kernel_first)


def surroundings() -> dict[str, str]:
    """What else the results may depend on."""
    devices = jax.devices()
    packages = ("jaxopt_cards", "jax", "jaxlib", "flax", "optax", "numpy")
    return {name: version(name) for name in packages} | {
        "Python": platform.python_version(),
        "device": f"{len(devices)} × {devices[0].device_kind} ({devices[0].platform})",
        "machine": f"{platform.system()} {platform.machine()}",
    }
