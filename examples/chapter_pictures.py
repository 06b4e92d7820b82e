"""Pictures of the exercises: learning curves, losses and mistakes."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from chapter import Row
from flax import nnx

from jaxopt_cards import data, pictures, training


def draw_curves(rows: Sequence[Row], path: Path) -> None:
    """Draws validation accuracy by epoch, with a panel for each row and a line for each seed."""
    figure, panels = panels_of(rows)
    for axis, row in zip(panels, rows, strict=True):
        for result in row.results:
            measured = 100 * result.history.valid_accuracy
            if np.isnan(measured).all():  # a single logit has no classes
                measured = result.history.valid_loss
                axis.set_ylabel("validation loss", fontsize=8)
            epochs = np.arange(1, len(measured) + 1)
            axis.plot(epochs, measured, lw=1, color="#0072b2", alpha=0.7)
            kept = result.best_epoch
            axis.plot(kept, measured[kept - 1], "o", ms=4, color="#d55e00")
    figure.supylabel("validation accuracy, %", fontsize=9)
    figure.suptitle("Each line is a seed; the dot is the epoch that is kept")
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
