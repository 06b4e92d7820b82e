"""A report: what came of training, on one page that can be opened, printed and sent."""

import datetime
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.reports import guesses, page, pictures, tables
from jaxopt_cards.reports.inputs import Rows, check_tables, checked_rows
from jaxopt_cards.reports.page import Section
from jaxopt_cards.training.outcome import FitResult


@declare
def report(
    results: FitResult | Mapping[str, FitResult | Sequence[FitResult]] | None,
    path: str | os.PathLike,
    *,
    title: str = "Training report",
    settings: Mapping[str, Any] | None = None,
    test: Sequence[Any] | None = None,
    tables: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    figures: Mapping[str, Any] | None = None,
    text: str = "",
    command: str | None = None,
) -> Path:
    r"""Writes one HTML page about runs: numbers, pictures, settings, and how to run it again.

    The page is a file of its own, without scripts and with nothing to load: it can be opened from
    disk, sent by mail and printed. Pictures are drawn for a light page and for a dark one. What
    users give, names and settings included, is shown as text, never taken as HTML.

    The numbers of a run are those of its best epoch; several runs of a row are seeds, shown as
    mean and standard deviation, to the second digit of the deviation. All epochs of all runs are on
    the page as CSV. The file appears whole or not at all, and replaces an older one.

    Args:
        results: a `FitResult`; or a mapping from the name of a row to one or to a sequence of them,
            one a seed; or `None` where there are tables and figures only.
        path: where to write; the folder must be there. Ends in `.html` by custom.
        title: the heading of the page.
        settings: what the runs were made with, by name; values may be mappings again.
        test: pair (x, y) of examples with integer labels that no run has seen. Each model is
            measured on them. The one of the least validation loss gets a confusion matrix and, if
            the inputs have the shape of grey images (squares of 8 pixels or more, as rows or not),
            its surest mistakes.
        tables: tables to show, by caption: a mapping for each line, all with the same keys. A
            sequence of numbers is shown as mean and deviation.
        figures: pictures to show, by caption: figures of matplotlib, kept on white paper; functions
            without arguments that make one, drawn light and dark; or paths of PNG, SVG, JPEG or
            GIF files.
        text: what to say first, such as a conclusion; lines are kept.
        command: how to run it again. Default: the command line of this process.

    Returns:
        The path, as a `pathlib.Path`.

    Raises:
        ValueError: nothing to show; results, tables or figures of another kind; test examples that
            a model does not take; a path that is a folder or lies in none.
        OSError: the page cannot be written; what was there is kept.
        ImportError: matplotlib is not installed, and there is a picture to draw.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, exercise 8: learning curves, and accuracy on the test set.

    Use when: runs are over, and someone else, or you in a year, should see what came of them.
    Avoid when: curves should be watched while training; `fit` has a progress bar for that.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import jaxopt_cards as jc
        >>> from flax import nnx
        >>> from jaxopt_cards import data, layers, reports, training
        >>> train, valid, test = data.digits()
        >>> model = layers.MLP(64, 10, units=(20,), rngs=nnx.Rngs(0))
        >>> result = training.fit(
        ...     model, jc.adam(1e-2), train=train, valid=valid, epochs=2, progress=False
        ... )
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = reports.report(result, Path(folder.name, "report.html"), test=test)
        >>> "Confusion matrix" in path.read_text()
        True
        >>> folder.cleanup()
    """
    target = page.check_writable(path)
    rows = checked_rows(results)
    for argument, things in (("settings", settings), ("tables", tables), ("figures", figures)):
        if things is not None and not isinstance(things, Mapping):
            raise HyperparameterError(argument, "be a mapping from names", things)
    check_tables(tables or {})
    if test is not None and not rows:
        raise HyperparameterError("test", "be None without results", type(test))
    if not (rows or tables or figures or text):
        raise NamedError("there is nothing to show: give results, tables, figures or text")
    accuracy = {} if test is None else guesses.accuracies(rows, test)
    sections = [
        *_given_tables(tables or {}),
        *_on_runs(rows, accuracy),
        *_on_test(rows, test),
        *_given_figures(figures or {}),
        *_layers(rows),
        *_settings(settings or {}, command),
    ]
    written = datetime.datetime.now().astimezone().isoformat(sep=" ", timespec="minutes")
    page.write_whole(target, page.page(title, written, text, sections, "jaxopt_cards"))
    return target


def _on_runs(rows: Rows, accuracy: Mapping[str, Sequence[float]]) -> Iterator[Section]:
    """Numbers, and curves."""
    if not rows:
        return
    several = any(len(results) > 1 for results in rows.values())
    spread = ", mean ± standard deviation over seeds" if several else ""
    quality = _by_run(f"Of the best epoch{spread}", tables.quality(rows, accuracy))
    effort = _by_run("Time, without compilation, and why it ended", tables.effort(rows))
    trouble = "".join(page.paragraph(line) for line in tables.troubles(rows))
    epochs = page.preformatted(tables.every_epoch(rows))
    details = page.details("All epochs, as CSV", epochs)
    yield Section("Runs", quality + effort + trouble + details)
    curves = [page.figure(drawn, caption) for caption, drawn in pictures.learning_curves(rows)]
    yield Section("Learning curves", page.figures(*curves))


def _by_run(caption: str, lines: list[dict[str, Any]]) -> str:
    """A table; of one run a line for each number, since a row alone would be wide and low."""
    if len(lines) > 1:
        return page.table(caption, lines)
    (_, name), *numbers = lines[0].items()
    turned = [{"measure": what, str(name): page.shown(value)} for what, value in numbers]
    return page.table(caption, turned)


def _on_test(rows: Rows, test: Sequence[Any] | None) -> Iterator[Section]:
    """What the best model makes of examples that it has not seen."""
    if test is None:
        return
    name, number, result = _least_loss(rows)
    found = guesses.guesses(result.model, test)
    wrong = int((found.labels != found.guesses).sum())
    said = (
        f"{_chosen(rows, name, number)}{wrong} of {len(found.labels)} examples are wrong, an "
        f"accuracy of {100 * (1 - wrong / len(found.labels)):.2f} %."
    )
    figures = [page.figure(drawn, told) for told, drawn in pictures.guesses(found)]
    matrix = page.table("Class by row, what it was taken for by column", guesses.counts(found))
    yield Section(
        "Test examples",
        page.paragraph(said)
        + page.figures(*figures)
        + page.details("Confusion matrix, as a table", matrix),
    )


def _least_loss(rows: Rows) -> tuple[str, int, FitResult]:
    """The row, number and result of the run with the least validation loss."""
    runs = [(name, n, run) for name, some in rows.items() for n, run in enumerate(some, 1)]
    losses = [_best_loss(run) for *_, run in runs]
    return runs[int(np.argmin(losses))]


def _best_loss(result: FitResult) -> float:
    """Of the best epoch; infinite where no loss was finite."""
    return float(result.history.valid_loss[result.best_epoch - 1]) if result.best_epoch else np.inf


def _chosen(rows: Rows, name: str, number: int) -> str:
    """Which of the runs this is about; nothing where there is but one."""
    if len(rows) == len(rows[name]) == 1:
        return ""
    run = f", run {number}" if len(rows[name]) > 1 else ""
    return f"{name}{run}, chosen by its validation loss: "


def _given_tables(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Section]:
    if tables:
        shown = [page.table(str(caption), rows) for caption, rows in tables.items()]
        yield Section("Results", "".join(shown))


def _given_figures(figures: Mapping[str, Any]) -> Iterator[Section]:
    if figures:
        shown = [
            page.figure(pictures.given(str(name), figure), str(name))
            for name, figure in figures.items()
        ]
        yield Section("Pictures" if len(figures) > 1 else "Picture", "".join(shown))


def _layers(rows: Rows) -> Iterator[Section]:
    """The layers of the models, once for all rows that have the same."""
    alike: dict[str, list[str]] = {}
    for name, results in rows.items():
        lines, total = tables.layers(results[0].model)
        foot = ("in all", "", f"{total}", "")
        body = page.table("Layers that have parameters", lines, foot)
        alike.setdefault(body, []).append(name)
    if alike:
        headings = [f"<h3>{page.escape(', '.join(names))}</h3>" for names in alike.values()]
        parts = zip(headings if len(alike) > 1 else [""], alike, strict=True)
        yield Section("Model", "".join(heading + body for heading, body in parts))


def _settings(settings: Mapping[str, Any], command: str | None) -> Iterator[Section]:
    """How it was made, and how to make it again."""
    if settings:
        lines = [
            {"setting": str(name), "value": page.described(value)}
            for name, value in settings.items()
        ]
        yield Section("Settings", page.table("As given", lines))
    versions = [{"what": name, "version": told} for name, told in tables.surroundings().items()]
    yield Section(
        "Run it again",
        page.preformatted(shlex.join(sys.orig_argv) if command is None else command, wrap=True)
        + page.table("Versions and device", versions),
    )
