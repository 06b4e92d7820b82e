"""A training report as one HTML page."""

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
    r"""Writes an HTML page about runs: numbers, pictures, settings, and how to reproduce them.

    The page is one self-contained file without scripts, which can be opened from disk, sent by mail
    and printed. Pictures are drawn for light and dark mode. All given texts are escaped, including
    names and settings.

    The numbers of a run are those of its best epoch. Several runs of a row are seeds; the page
    shows their mean and standard deviation, to the second digit of the deviation. All epochs of all
    runs are on the page as CSV. The file is written atomically, and replaces an older one.

    Args:
        results: a `FitResult`; or a mapping from the name of a row to one or a sequence of them,
            one per seed; or `None` if there are only tables and figures.
        path: the file to write, usually `.html`; its folder must exist.
        title: the heading of the page.
        settings: the settings of the runs, by name; values may be mappings.
        test: pair (x, y) of test examples with integer labels. Each model is evaluated on them. For
            the one with the least validation loss, the page shows a confusion matrix and, if the
            inputs are grey images (squares of 8 pixels or more, flattened or not), the mistakes of
            which it is most certain.
        tables: tables to show, by caption: a mapping for each row, all with the same keys. A
            sequence of numbers is shown as mean and deviation.
        figures: pictures to show, by caption: figures of matplotlib, shown on white; functions
            without arguments that return one, drawn light and dark; or paths of PNG, SVG, JPEG or
            GIF files.
        text: an introduction, such as a conclusion; line breaks are kept.
        command: how to reproduce the runs. Default: the command line of this process.

    Returns:
        The path, as a `pathlib.Path`.

    Raises:
        ValueError: there is nothing to show; results, tables or figures have another type; test
            examples do not fit a model; the path is a folder, or its folder does not exist.
        OSError: the page cannot be written; an older file is kept.
        ImportError: there is a picture to draw, but matplotlib is not installed.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, exercise 8: learning curves, and accuracy on the test set.

    Use when: you want to share the results of runs, or to keep them.
    Avoid when: you want to watch training; `fit` has a progress bar.

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
    """The numbers of the runs, and their learning curves."""
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
    """A table with a row for each run; for a single run, with a row for each number."""
    if len(lines) > 1:
        return page.table(caption, lines)
    (_, name), *numbers = lines[0].items()
    turned = [{"measure": what, str(name): page.shown(value)} for what, value in numbers]
    return page.table(caption, turned)


def _on_test(rows: Rows, test: Sequence[Any] | None) -> Iterator[Section]:
    """The predictions of the best model for the test examples."""
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
    matrix = page.table("Labels by row, predictions by column", guesses.counts(found))
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
    """The loss of the best evaluation; infinite if no loss was finite."""
    return float(result.history.valid_loss[result.best_row]) if result.best_epoch else np.inf


def _chosen(rows: Rows, name: str, number: int) -> str:
    """Names the chosen run; empty if there is only one."""
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
    """The layers of the models; rows with equal layers share a table."""
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
    """The settings, the command and the versions."""
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
