"""The exercises run, print their table, and write what the README's tables are made from."""

import importlib
import json
import sys

import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from jaxopt_cards import data, layers, training

LETTER_8 = {"8.2 letter": 97.26, "8.4 letter": 99.42, "8.5 letter": 98.62}
OTHERS_8 = ["8.2 tuned", "8.3 tuned", "8.4 by hand", "8.4 tuned", "8.5 by hand", "8.5 tuned"]
OTHERS_8 += ["augmented"]
NOTEBOOK_9 = {"8.2": 97.26, "9.2": 64.02, "9.3": 61.16, "9.4": 69.10, "9.5 top two": 78.09}
NOTEBOOK_9 |= {"9.5 all": 91.34, "scratch": 84.82}
LETTER_9 = {f"{row} letter": number for row, number in NOTEBOOK_9.items()}
OTHERS_9 = [f"{row} tuned" for row in NOTEBOOK_9]
OTHERS_9 += ["8.2 toolbox", "9.5 all toolbox", "scratch toolbox"]
LETTER_10 = {"10.3 letter": 97.6, "10.4 letter": 96.5, "10 scratch letter": 94.6}
OTHERS_10 = [f"{row} tuned" for row in ("10.3", "10.4", "10 scratch")]
OTHERS_10 += [f"{row} toolbox" for row in ("10.3", "10.4", "10 scratch")]


def notebook_of(results):
    """The number of the notebook by row."""
    return {row["row"]: row["notebook"] for row in results["rows"]}


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
    assert notebook_of(results) == LETTER_9 | dict.fromkeys(OTHERS_9)
    assert results["settings"]["data"] == "digits"
    assert results["settings"]["seeds"] == 2
    for row in rows.values():
        assert len(row["accuracy"]) == len(row["seconds"]) == 2
        assert min(row["seconds"]) > 0
    for kind in ("letter", "tuned"):
        assert np.mean(rows[f"8.2 {kind}"]["accuracy"]) > 90
        assert np.mean(rows[f"9.5 all {kind}"]["accuracy"]) > 80
        # The same, only faster.
        assert rows[f"9.2 {kind}"]["accuracy"] == rows[f"9.3 {kind}"]["accuracy"]
    assert rows["9.4 letter"]["settings"] == {
        "network": "64 → 4 × 100 → 5, elu",
        "optimizer": "adam(learning_rate=0.002)",
        "examples": 100,
        "batch_size": 20,
        "epochs": 1000,
        "patience": 20,
        "extras": {"trainable": "all but hidden", "kept": "best epoch"},
    }
    assert rows["8.2 tuned"]["settings"]["extras"]["regularizer"] == "l2(strength=0.0001)"
    for name in ("learning_curves.png", "errors.png"):
        assert (tmp_path / "first" / name).read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert all(f"│ {name} " in printed for name in notebook_of(results))
    assert len(results["answers"]) == 4
    assert all(
        f"{question}: {answer}" in printed for question, answer in results["answers"].items()
    )
    page = (tmp_path / "first" / "report.html").read_text()
    assert all(f">{row['row']}, {row['what']}</th>" in page for row in results["rows"])
    assert "how much faster is it with cached layers?: An epoch is" in page


def test_exercise_10_on_digits(run, tmp_path, monkeypatch, capsys):
    exercise = importlib.import_module("exercise_10_auxiliary_task")
    monkeypatch.setattr(exercise, "PAIRS", {"digits": 5_000})
    monkeypatch.setattr(exercise, "EPOCHS_MOVED", 3)
    monkeypatch.setattr(exercise, "EPOCHS_DIGITS", 20)
    results = run("exercise_10_auxiliary_task", "--data", "digits")
    rows = {row["row"]: row for row in results["rows"]}
    assert notebook_of(results) == LETTER_10 | dict.fromkeys(OTHERS_10)
    for kind in ("letter", "tuned"):
        assert rows[f"10.3 {kind}"]["accuracy"][0] > 80  # half of the pairs are the same digit
        assert rows[f"10.4 {kind}"]["accuracy"][0] > 80
    pairs, few = (rows[f"{row} letter"]["settings"] for row in ("10.3", "10.4"))
    assert pairs["network"].count("64 → 5 × 100, elu; ") == 2
    assert pairs["network"].endswith("compare: 200 → 10; output: 10 → 1")
    assert pairs["extras"] == {"loss": "sigmoid_binary_cross_entropy", "kept": "last epoch"}
    assert few["examples"] == len(data.digits().valid.y)  # all of split 2
    assert few["extras"] == {"trainable": "all but hidden", "kept": "last epoch"}
    for name in ("learning_curves.png", "errors.png", "pairs.png"):
        assert (tmp_path / "first" / name).read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert all(f"│ {name} " in printed for name in rows)


def test_a_pair_has_one_logit_which_is_different_above_zero(run):
    exercise = importlib.import_module("exercise_10_auxiliary_task")
    net = exercise.PairNet(4, {"units": (3,)}, rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).normal(size=(50, 2, 4)).astype(np.float32)
    logits = np.asarray(net(x))
    assert logits.shape == (50,)
    assert 0 < np.mean(logits > 0) < 1
    assert exercise.share_right(net, data.Examples(x, (logits > 0).astype(np.int32))) == 1


def test_exercise_8_stores_its_models_and_goes_on_where_it_was(run, tmp_path, monkeypatch, capsys):
    exercise = importlib.import_module("exercise_08_deep_learning")
    for space in exercise.SPACES.values():
        monkeypatch.setitem(space, "units", [(100,)])  # what takes time is to compile the layers
    monkeypatch.setattr(importlib.import_module("chapter"), "EPOCHS", 30)
    first = run("exercise_08_deep_learning", "--data", "digits")
    rows = {row["row"]: row for row in first["rows"]}
    assert notebook_of(first) == LETTER_8 | dict.fromkeys(OTHERS_8)
    for name, row in rows.items():
        assert row["accuracy"][0] > (90 if name != "8.5 letter" else 80), name
    alike = [dict(rows[name]["settings"]) for name in LETTER_8]
    assert all(settings["extras"] == {"kept": "best epoch"} for settings in alike)
    networks = [settings.pop("network") for settings in alike]
    assert alike[0] == alike[1] == alike[2]  # the same with batch normalisation, with dropout
    plain = "64 → 5 × 100 → 5, elu"
    assert networks == [
        plain,
        f"{plain}, batch normalisation with momentum 0.99",
        f"{plain}, dropout 0.5, input_dropout 0.5",
    ]
    assert "reduce_on_plateau(factor=0.5, patience=3)" in str(rows["8.2 tuned"]["settings"])
    printed = capsys.readouterr().out
    assert "rank" in printed
    assert "│ augmented " in printed
    assert len(first["answers"]) == 3
    for name in ("learning_curves", "losses", "convergence", "overfitting"):
        name = f"{name}.png"
        assert (tmp_path / "first" / name).read_bytes().startswith(b"\x89PNG")
    with ocp.StandardCheckpointer() as saver:
        stored = saver.restore(tmp_path / "first" / "digits" / "models" / "8.4_letter" / "0")
    model = layers.MLP(64, 5, batch_norm=True, rngs=nnx.Rngs(9))
    nnx.update(model, stored)
    test = data.subset(data.digits().test, range(5))
    accuracy = 100 * training.evaluate(model, *test)["accuracy"]
    assert accuracy == pytest.approx(rows["8.4 letter"]["accuracy"][0])
    again = run("exercise_08_deep_learning", "--data", "digits")
    first["settings"].pop("load"), again["settings"].pop("load")
    assert again == first  # the seconds, too: nothing was searched or trained again


def test_bad_options_are_explained(run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("exercise_08_deep_learning", "--seeds", "0")
    assert "--seeds must be at least 1, got 0" in capsys.readouterr().err
