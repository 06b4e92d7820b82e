"""The page of a report against the results that it tells of."""

import csv
import dataclasses
import html.parser
import io
import math
import re
import statistics
import sys
from importlib.metadata import version

import matplotlib.figure
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training
from jaxopt_cards.reports import guesses as _report_guesses
from jaxopt_cards.reports import page as _page
from jaxopt_cards.reports import tables as _report_tables
from tests.training.blobs import TRAIN, VALID

VOID = {"meta", "img", "source", "br", "link", "input"}


class Page(html.parser.HTMLParser):
    """Text, tags and tables; fails where tags do not nest."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.text, self.tables = [], [], [], []
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
        if {"th", "td"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def rows(self, heading):
        """The rows of tables that have the heading, as mappings; by the name in the first cell."""
        return {
            line[0]: dict(zip(table[0], line, strict=True))
            for table in self.tables
            if heading in table[0]
            for line in table[1:]
        }

    def pictures(self, kind):
        """What is said of the pictures that are drawn in this way."""
        return [a["alt"] for tag, a in self.tags if tag == "img" and a["class"] == kind]


@pytest.fixture(scope="module")
def rows():
    models = [layers.MLP(6, 3, units=(4,), rngs=nnx.Rngs(seed)) for seed in range(3)]
    *two, third = training.fit_many(
        models, jc.adam(1e-2), train=TRAIN, valid=VALID, epochs=3, progress=False
    )
    with_trouble = dataclasses.replace(third, trouble="no such weight", stopped="patience")
    return {"two seeds": two, "a <script>alert(1)</script> & $x": with_trouble}


def meant(values):
    """Mean and deviation, to the deviation's second digit."""
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    digits = max(1 - math.floor(math.log10(deviation)), 0)
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def test_the_page_has_the_numbers_of_the_results(rows, tmp_path):
    path = training.report(rows, tmp_path / "report.html", test=VALID)
    page = Page(path)
    (seeds, alone), names = (rows["two seeds"], [*rows.values()][1]), list(rows)
    quality, effort = page.rows("validation loss"), page.rows("seconds")
    assert list(quality) == list(effort) == names

    def best(result, quantity):
        return getattr(result.history, quantity)[result.best_epoch - 1]

    for quantity, heading in (("train_loss", "training loss"), ("valid_loss", "validation loss")):
        assert quality[names[0]][heading] == meant([best(result, quantity) for result in seeds])
        assert quality[names[1]][heading] == f"{best(alone, quantity):.4g}"
    accuracy = [100 * training.evaluate(r.model, *VALID)["accuracy"] for r in (*seeds, alone)]
    # The last run's is of the same examples here as its validation accuracy.
    assert quality[names[1]]["test accuracy, %"] == f"{accuracy[2]:.4g}"
    assert quality[names[1]]["validation accuracy, %"] == f"{accuracy[2]:.4g}"
    assert quality[names[0]]["seeds"] == "2"
    assert effort[names[1]]["best epoch"] == str(alone.best_epoch)
    assert effort[names[1]]["epochs"] == "3"
    assert effort[names[1]]["seconds"] == f"{alone.seconds:.4g}"
    assert effort[names[1]]["seconds to compile"] == f"{alone.compile_seconds:.4g}"
    assert [line["ended"] for line in effort.values()] == ["all epochs done", "patience ran out"]
    assert f"{names[1]}, run 1: no such weight" in page.text


def test_every_epoch_is_there_to_the_last_digit(rows, tmp_path):
    page = Page(training.report(rows, tmp_path / "report.html"))
    text = next(text for text in page.text if text.startswith("row,run,epoch"))
    told = list(csv.DictReader(io.StringIO(text)))
    runs = [("two seeds", "1"), ("two seeds", "2"), ([*rows][1], "1")]
    results = [*rows["two seeds"], [*rows.values()][1]]
    assert [(line["row"], line["run"]) for line in told] == [run for run in runs for _ in range(3)]
    for name in training.History._fields:
        expected = np.concatenate([getattr(result.history, name) for result in results])
        assert [float(line[name]) for line in told] == expected.tolist()


def test_the_model_of_the_least_loss_is_shown_on_test_examples(rows, tmp_path):
    page = Page(training.report(rows, tmp_path / "report.html", test=VALID))
    runs = [*rows["two seeds"], [*rows.values()][1]]
    best = min(runs, key=lambda result: result.history.valid_loss[result.best_epoch - 1])
    names = ["two seeds, run 1", "two seeds, run 2", [*rows][1]]
    guesses = np.asarray(best.model(VALID.x)).argmax(axis=1)
    wrong = int((guesses != VALID.y).sum())
    name = next(name for name, run in zip(names, runs, strict=True) if run is best)
    assert f"{name}, chosen by its validation loss: {wrong} of 60 examples are wrong" in str(
        page.text
    )
    matrix = page.rows("class")
    for label in range(3):
        for guess in range(3):
            count = int(((label == VALID.y) & (guess == guesses)).sum())
            assert matrix[str(label)][str(guess)] == str(count)


def test_nothing_is_loaded_and_no_text_is_taken_for_html(rows, tmp_path):
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    path = training.report(
        rows,
        tmp_path / "report.html",
        title=evil,
        text=evil,
        command=evil,
        settings={evil: {evil: evil}},
        tables={evil: [{evil: evil}]},
        figures={evil: matplotlib.figure.Figure()},
        test=VALID,
    )
    page = Page(path)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "#").startswith("#" if tag == "a" else ("data:image/", "#"))
    assert "".join(page.text).count(evil) == 11
    assert "url(" not in path.read_text()
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'")


def test_pictures_are_told_in_words_and_tables_name_rows_and_columns(rows, tmp_path):
    page = Page(training.report(rows, tmp_path / "report.html", test=VALID))
    pictures, dark = page.pictures("light"), page.pictures("dark")
    assert len(pictures) == 3  # two curves, and the matrix: six numbers are no image
    assert pictures == dark
    assert pictures[0].startswith("Validation loss by epoch of two seeds, a <script>")
    scopes = {attributes["scope"] for tag, attributes in page.tags if tag == "th"}
    assert scopes == {"row", "col"}
    headings = [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == "h1"
    assert set(headings[1:]) == {"h2"}
    anchors = {a["href"].removeprefix("#") for tag, a in page.tags if tag == "a"}
    assert anchors == {a["id"] for _, a in page.tags if "id" in a}


def test_settings_versions_and_command_are_there(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", ["python", "my script.py", "--rate=1e-3"])
    settings = {"network": {"units": (5, 5)}, "optimizer": jc.adam, "rate": 1e-3}
    page = Page(training.report(rows, tmp_path / "report.html", settings=settings))
    told = {name: line["value"] for name, line in page.rows("setting").items()}
    assert told == {"network": "units: 5, 5", "optimizer": "adam", "rate": "0.001"}
    versions = {name: line["version"] for name, line in page.rows("version").items()}
    assert versions["jax"] == version("jax")
    assert "python 'my script.py' --rate=1e-3" in page.text


def test_layers_are_listed_once_with_their_parameters(rows, tmp_path):
    page = Page(training.report(rows, tmp_path / "report.html"))
    told = {name: line["parameters"] for name, line in page.rows("parameters").items()}
    assert told == {"hidden1": "28", "logits": "15", "in all": "43"}
    model = layers.MLP(2, 2, units=(1,) * 11, batch_norm=True, rngs=nnx.Rngs(0))
    names = [line["layer"] for line in _report_tables.layers(model)[0]]
    order = [name for i in range(1, 12) for name in (f"hidden{i}", f"hidden{i}_norm")]
    assert names == [*order, "logits"]


def test_the_same_results_give_the_same_page(rows, tmp_path):
    first, second = (
        training.report(rows, tmp_path / name, test=VALID).read_text() for name in ("a", "b")
    )
    time = re.compile(r"<time.*?</time>")
    assert time.sub("", first) == time.sub("", second)


def test_images_are_known_by_their_shape():
    for shape in ((5, 64), (5, 8, 8), (5, 8, 8, 1)):
        assert _report_guesses.images(np.zeros(shape)).shape == (5, 8, 8)
    for shape in ((5, 9), (5, 65), (5, 8, 3), (5, 8, 8, 3), (5,)):
        assert _report_guesses.images(np.zeros(shape)) is None


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("text", "text"),
        (None, "–"),
        (float("nan"), "–"),
        (True, "yes"),
        (12345, "12345"),
        (0.123456, "0.1235"),
        (np.float32(0.5), "0.5"),
        ([1.0], "1"),
        ([1.0, 3.0], "2.0 ± 1.4"),
        (np.array([100.0, 300.0]), "200 ± 141"),
        ([0.001, 0.003], "0.0020 ± 0.0014"),
        ([1.0, 1.0 + 0.0996 * 2**0.5], "1.07 ± 0.10"),
        ([2, 2], "2 ± 0"),
        ([92.00001, 92.00002], "92 ± 0"),
        ([0, 0], "0 ± 0"),
        ([1.0, float("inf")], "inf"),
        ([1.0, float("nan")], "–"),
        (["a", "b"], "a, b"),
    ],
)
def test_cells(value, told):
    assert _page.shown(value) == told


def test_tables_and_figures_alone(tmp_path):
    def draw():
        figure = matplotlib.figure.Figure()
        figure.subplots().set(xlabel="epoch", ylabel="loss")
        return figure

    picture = tmp_path / "own.png"
    draw().savefig(picture)
    page = Page(
        training.report(
            None,
            tmp_path / "report.html",
            tables={"Rates": [{"name": "sgd", "accuracy": [1.0, 3.0], "notebook": None}]},
            figures={"one": draw(), "two": draw, "three": picture},
        )
    )
    assert page.rows("accuracy")["sgd"] == {"name": "sgd", "accuracy": "2.0 ± 1.4", "notebook": "–"}
    assert page.pictures("paper") == ["one: loss over epoch", "own"]
    assert page.pictures("light") == page.pictures("dark") == ["two: loss over epoch"]


def test_a_run_that_was_never_finite_is_told_of(rows, tmp_path):
    history = training.History(*np.full((3, 2), np.nan), np.ones(2))
    failed = dataclasses.replace(
        rows["two seeds"][0], history=history, best_epoch=0, stopped="not finite"
    )
    page = Page(training.report({"failed": failed} | rows, tmp_path / "report.html"))
    assert page.rows("validation loss")["failed"]["validation loss"] == "–"
    assert page.rows("ended")["failed"]["ended"] == "loss not finite"


LINE = {"a": 1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"results": None}, "nothing to show"),
        ({"results": {}}, "report: results must be a FitResult"),
        ({"results": 3}, "report: results must be a FitResult"),
        ({"results": {"a": []}}, r"results\['a'\] must be a FitResult or a sequence"),
        ({"results": {"a": [1]}}, r"results\['a'\] must be a FitResult or a sequence"),
        ({"results": None, "text": "a", "test": VALID}, "test must be None without results"),
        ({"test": (VALID.x[:, :2], VALID.y)}, "does not take inputs"),
        ({"test": (VALID.x, VALID.y + 9)}, "labels of test"),
        ({"test": (VALID.x, VALID.y[:3])}, "as many inputs as labels"),
        ({"settings": [1]}, "settings must be a mapping"),
        ({"figures": {"a": 1}}, r"figures\['a'\] must be a figure of matplotlib"),
        ({"figures": {"a": "notes.txt"}}, "files of"),
        ({"tables": {"a": []}}, "have at least one row"),
        ({"tables": {"a": [{}]}}, "have at least one row"),
        ({"tables": {"a": [LINE, {"b": 1}]}}, r"have the headings \['a'\]"),
        ({"tables": {"a": "text"}}, "sequence of mappings"),
    ],
)
def test_bad_input_is_explained_and_leaves_the_old_page(rows, tmp_path, change, message):
    path = tmp_path / "report.html"
    path.write_text("old")
    settings = {"results": rows, "path": path} | change
    with pytest.raises(ValueError, match=message):
        training.report(settings.pop("results"), settings.pop("path"), **settings)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_is_explained(rows, tmp_path):
    with pytest.raises(ValueError, match="path must be a file, not a folder"):
        training.report(rows, tmp_path)
    with pytest.raises(ValueError, match="path must be in an existing folder"):
        training.report(rows, tmp_path / "none" / "report.html")


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space left"):
        training.report(None, tmp_path / "report.html", text="a")
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_it_says_what_to_install(rows, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "jaxopt_cards.pictures", raising=False)
    monkeypatch.delattr(jc, "pictures", raising=False)
    message = r"report: needs matplotlib: pip install 'jaxopt_cards\[examples\]'"
    with pytest.raises(ImportError, match=message):
        training.report(rows, tmp_path / "report.html")
    # Text and tables need none of it.
    training.report(None, tmp_path / "report.html", tables={"a": [LINE]})
