"""The exercises run, print their table, and write what the README's tables are made from."""

import importlib
import json
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from jaxopt_cards import data, layers, training

ROWS_9 = ["8.2", "9.2", "9.3", "9.4", "9.5 top two", "9.5 all", "scratch"]
ROWS_9 += ["8.2 toolbox", "9.5 all toolbox", "scratch toolbox"]
ROWS_8 = ["8.2", "8.3", "8.4", "8.4 tuned", "8.5", "8.5 tuned", "augmented"]
NOTEBOOK_8 = [97.26, 98.91, 99.42, 99.49, 98.62, 98.89, None]
NOTEBOOK_9 = [97.26, 64.02, 61.16, 69.10, 78.09, 91.34, 84.82, None, 91.34, 84.82]
ROWS_10 = ["10.3", "10.4", "10 scratch", "10.3 toolbox", "10.4 toolbox", "10 scratch toolbox"]
NOTEBOOK_10 = [97.6, 96.5, 94.6] * 2


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs an exercise as from the command line, and returns what it wrote to results.json."""

    chapter = importlib.import_module("chapter")
    monkeypatch.setitem(chapter.TOOLBOX, "units", (100,) * 3)

    def run(exercise, *arguments, folder="first"):
        options = ["--output", str(tmp_path / folder), *arguments]
        monkeypatch.setattr(sys, "argv", [f"{exercise}.py", *options])
        importlib.import_module(exercise).main()
        return json.loads((tmp_path / folder / "results.json").read_text())

    return run


def test_exercise_9_on_digits(run, tmp_path, monkeypatch, capsys):
    exercise = importlib.import_module("exercise_09_transfer_learning")
    monkeypatch.setattr(exercise, "EPOCHS_TOOLBOX", 3)
    monkeypatch.setattr(exercise, "EPOCHS_B", 20)
    options = ("--data", "digits", "--seeds", "2", "--report")
    results = run("exercise_09_transfer_learning", *options)
    rows = {row["row"]: row for row in results["rows"]}
    assert list(rows) == ROWS_9
    assert [row["notebook"] for row in rows.values()] == NOTEBOOK_9
    assert results["settings"]["data"] == "digits"
    assert results["settings"]["seeds"] == 2
    for row in rows.values():
        assert len(row["accuracy"]) == len(row["seconds"]) == 2
        assert min(row["seconds"]) > 0
    assert np.mean(rows["8.2"]["accuracy"]) > 90
    assert np.mean(rows["9.5 all"]["accuracy"]) > 80
    assert rows["9.2"]["accuracy"] == rows["9.3"]["accuracy"]  # the same, only faster
    for name in ("learning_curves.png", "errors.png"):
        assert (tmp_path / "first" / name).read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert all(f"│ {name} " in printed for name in ROWS_9)
    assert "9.3 is 9.2, only faster" in printed
    page = (tmp_path / "first" / "report.html").read_text()
    assert all(f">{row['row']}, {row['what']}</th>" in page for row in results["rows"])
    assert "9.3 is 9.2, only faster" in page


def test_exercise_10_on_digits(run, tmp_path, monkeypatch, capsys):
    exercise = importlib.import_module("exercise_10_auxiliary_task")
    monkeypatch.setattr(exercise, "PAIRS", {"digits": 5_000})
    monkeypatch.setattr(exercise, "EPOCHS_MOVED", 3)
    monkeypatch.setattr(exercise, "EPOCHS_DIGITS", 20)
    results = run("exercise_10_auxiliary_task", "--data", "digits")
    rows = {row["row"]: row for row in results["rows"]}
    assert list(rows) == ROWS_10
    assert [row["notebook"] for row in rows.values()] == NOTEBOOK_10
    assert rows["10.3"]["accuracy"][0] > 80  # of pairs, half of which are the same digit
    assert rows["10.4"]["accuracy"][0] > 80
    for name in ("learning_curves.png", "errors.png", "pairs.png"):
        assert (tmp_path / "first" / name).read_bytes().startswith(b"\x89PNG")
    assert all(f"│ {name} " in capsys.readouterr().out for name in ROWS_10[:1])


def test_the_logistic_unit_of_pairs_is_a_softmax_of_two(run):
    exercise = importlib.import_module("exercise_10_auxiliary_task")
    net = exercise.PairNet(4, {"units": (3,)}, rngs=nnx.Rngs(0))
    logits = net(np.random.default_rng(0).normal(size=(5, 2, 4)).astype(np.float32))
    assert logits.shape == (5, 2)
    np.testing.assert_allclose(
        jax.nn.softmax(logits)[:, 1], jax.nn.sigmoid(logits[:, 1]), rtol=1e-6
    )


def test_exercise_8_stores_its_models_and_goes_on_where_it_was(run, tmp_path, monkeypatch, capsys):
    exercise = importlib.import_module("exercise_08_deep_learning")
    for space in exercise.SPACES.values():
        monkeypatch.setitem(space, "units", [(100,)])  # what takes time is to compile the layers
    first = run("exercise_08_deep_learning", "--data", "digits")
    rows = {row["row"]: row for row in first["rows"]}
    assert list(rows) == ROWS_8
    assert [row["notebook"] for row in rows.values()] == NOTEBOOK_8
    for row in rows.values():
        assert row["accuracy"][0] > 90
    printed = capsys.readouterr().out
    assert "rank" in printed
    assert "│ augmented " in printed
    for name in ("learning_curves.png", "losses.png"):
        assert (tmp_path / "first" / name).read_bytes().startswith(b"\x89PNG")
    with ocp.StandardCheckpointer() as saver:
        stored = saver.restore(tmp_path / "first" / "digits" / "models" / "8.4" / "0")
    model = layers.MLP(64, 5, batch_norm=True, rngs=nnx.Rngs(9))
    nnx.update(model, stored)
    test = data.subset(data.digits().test, range(5))
    accuracy = 100 * training.evaluate(model, *test)["accuracy"]
    assert accuracy == pytest.approx(rows["8.4"]["accuracy"][0])
    again = run("exercise_08_deep_learning", "--data", "digits")
    assert again == first  # the seconds, too: nothing was searched or trained again


def test_bad_options_are_explained(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("exercise_08_deep_learning", "--seeds", "0")
    assert "--seeds must be at least 1, got 0" in capsys.readouterr().err
