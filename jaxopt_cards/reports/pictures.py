"""The pictures of a report, each drawn for light and for dark mode."""

import functools
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.reports.inputs import Rows
from jaxopt_cards.reports.page import Drawn, from_file
from jaxopt_cards.training.outcome import FitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from jaxopt_cards.reports.guesses import Guesses

_TOGETHER = 6  # rows in one picture, few enough for distinct colours and a legend inside


def learning_curves(rows: Rows) -> Iterator[tuple[str, Drawn]]:
    """Captions and pictures: losses and accuracy by epoch, a few rows at a time."""
    names = list(rows)
    for first in range(0, len(names), _TOGETHER):
        some = {name: rows[name] for name in names[first : first + _TOGETHER]}
        if len(rows) == 1:
            yield from _both_losses(next(iter(some.values())))
        else:
            yield from _one_quantity(some, "valid_loss", "Validation loss")
        yield from _one_quantity(some, "valid_accuracy", "Validation accuracy, in percent")


def _both_losses(results: Sequence[FitResult]) -> Iterator[tuple[str, Drawn]]:
    """Training and validation loss of one row; their distance is overfitting."""
    histories = [result.history for result in results]
    runs = {
        "training": [history._replace(valid_loss=history.train_loss) for history in histories],
        "validation": histories,
    }

    def draw(ax: "Axes") -> None:
        _pictures().learning_curves(ax, runs, "valid_loss")
        ax.set_ylabel("loss")

    yield "Loss: training and validation", drawn(draw, "Loss by epoch, training and validation")


def _one_quantity(rows: Rows, quantity: str, caption: str) -> Iterator[tuple[str, Drawn]]:
    """One line per row, if its numbers are finite; without classes there is no accuracy."""
    runs = {name: [result.history for result in results] for name, results in rows.items()}
    finite = [np.isfinite(getattr(h, quantity)).any() for some in runs.values() for h in some]
    if all(finite):
        names = "" if len(rows) == 1 else f" of {', '.join(rows)}"
        draw = functools.partial(_pictures().learning_curves, runs=runs, quantity=quantity)
        yield caption, drawn(draw, f"{caption} by epoch{names}")


def guesses(found: "Guesses") -> Iterator[tuple[str, Drawn]]:
    """The confusion matrix, and the misclassified images."""
    labels, took = found.labels, found.guesses
    yield (
        "Number of examples by class (rows) and prediction (columns)",
        drawn(
            lambda ax: _pictures().confusion_matrix(ax, labels, took),
            "Confusion matrix; its numbers are in the table below",
            size=(4.8, 4.8),
        ),
    )
    wrong = int((labels != took).sum())
    if found.images is not None and wrong:
        # Sorted by the margin of the wrong class: the most certain mistakes first.
        order = np.argsort(-found.excess, kind="stable")
        some = (found.images[order], labels[order], took[order])
        yield (
            "The most certain mistakes first, each with its class and the prediction",
            drawn(
                lambda ax: _pictures().misclassified(ax, *some),
                f"Misclassified test images: {wrong} of {len(labels)} are wrong",
                size=(6.4, 0.5 + 0.8 * -(-min(wrong, 20) // 10)),
            ),
        )


def drawn(draw: Callable[["Axes"], Any], alt: str, size: tuple[float, float] = (4.8, 3.3)) -> Drawn:
    """The picture that a function draws into axes, light and dark."""
    from matplotlib.figure import Figure

    def made() -> "Figure":
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        return figure

    return _in_both(made, alt)


def given(name: str, figure: Any) -> Drawn:
    """A given picture: a figure, a function that returns one, or a file."""
    if hasattr(figure, "savefig"):
        width = round(96 * figure.get_figwidth())  # a page has 96 pixels to the inch
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=150, metadata={"Software": None})
        return Drawn("image/png", file.getvalue(), None, f"{name}: {_alt(figure)}", width)
    if callable(figure):
        return _in_both(figure, name)
    if isinstance(figure, str | os.PathLike):
        return from_file(figure)
    expected = "be a figure of matplotlib, a function that returns one, or the path of a picture"
    raise HyperparameterError(f"figures[{name!r}]", expected, figure)


def _in_both(make: Callable[[], "Figure"], alt: str) -> Drawn:
    pictures = _pictures()
    with pictures.style():
        figure = make()
        light, told = _svg(figure), _alt(figure)
    with pictures.style(dark=True):
        dark = _svg(make())
    return Drawn("image/svg+xml", light, dark, f"{alt}: {told}" if told else alt)


def _svg(figure: "Figure") -> bytes:
    """The figure as SVG, deterministic."""
    import matplotlib as mpl

    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "jaxopt_cards"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _alt(figure: "Figure") -> str:
    """A text alternative from the titles and labels of the axes."""
    told = []
    for ax in figure.axes:
        what = " over ".join(filter(None, (ax.get_ylabel(), ax.get_xlabel())))
        if part := ", ".join(filter(None, (ax.get_title(), what))):
            told.append(part)
    return "; ".join(dict.fromkeys(told))


def _pictures() -> Any:
    """The package's pictures, which need matplotlib."""
    from jaxopt_cards import pictures

    return pictures
