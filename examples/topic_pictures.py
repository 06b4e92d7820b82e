"""Shared pictures of the examples: axes in a row, and lines by learning rate or other values."""

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from topics import Variant


def save(figure: plt.Figure, path: Path) -> None:
    """Writes a picture in 256 colours, which looks the same with a third of the bytes."""
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=120)
    Image.open(drawn).convert("RGB").quantize(256).save(path, optimize=True)


def panels(
    columns: int = 1, width: float = 4.5, height: float = 3.6, rows: int = 1
) -> tuple[plt.Figure, list]:
    """A figure with axes side by side; sizes in inches per axes."""
    size = (columns * width, rows * height)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    return figure, list(axes.flat)


def looks() -> Iterator[dict]:
    """Markers and styles of successive lines, which also differ in grey."""
    styles = itertools.cycle(("-", "--", "-.", ":"))
    for marker, style in zip(itertools.cycle("os^DvPX"), styles, strict=True):
        yield {"marker": marker, "linestyle": style, "markersize": 5}


def draw_rates(ax: plt.Axes, sweeps: Mapping[str, Sequence["Variant"]]) -> plt.Axes:
    """Draws validation accuracy by learning rate, with a line for each sweep."""
    for (name, sweep), look in zip(sweeps.items(), looks(), strict=False):
        rates = [variant.rate for variant in sweep]
        accuracy = [np.mean(variant.valid_accuracy) for variant in sweep]
        ax.semilogx(rates, accuracy, label=name, **look)
    ax.set(xlabel="learning rate", ylabel="validation accuracy, %", title="Best at each rate")
    ax.grid(alpha=0.15)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    return ax


def draw_over(
    ax: plt.Axes,
    values: Sequence[float],
    lines: Mapping[str, Sequence["Variant"]],
    plain: "Variant | None" = None,
    label: str = "",
    log: bool = False,
) -> plt.Axes:
    """Draws test accuracy by a value: mean, and bars from the worst to the best seed."""
    if log:
        ax.set_xscale("log")
        ax.set_xticks(values, [f"{value:g}" for value in values])
        ax.minorticks_off()
    for (name, variants), look in zip(lines.items(), looks(), strict=False):
        accuracy = np.array([variant.accuracy for variant in variants])
        mean = accuracy.mean(axis=1)
        bars = np.abs(np.stack([accuracy.min(axis=1), accuracy.max(axis=1)]) - mean)
        ax.errorbar(values, mean, bars, label=name, capsize=2, **look)
    if plain is not None:
        mean = np.mean(plain.accuracy)
        ax.axhline(mean, color="gray", lw=1, label=f"{plain.name}: {mean:.2f} %")
    ax.set(xlabel=label, ylabel="test accuracy, %")
    ax.grid(alpha=0.15)
    ax.legend()
    return ax
