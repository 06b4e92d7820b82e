import csv
import json
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from jaxopt_cards import transfer
from jaxopt_cards.cli import app, main

RANDOM = np.random.default_rng(0)
Y = np.arange(120) % 3
X = RANDOM.normal(size=(120, 2)) + 4 * np.stack([Y, -Y], axis=1)


def run(*arguments):
    result = CliRunner().invoke(app(), ["fit", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def blobs(tmp_path):
    """Three heaps of points, with words for labels."""
    path = tmp_path / "blobs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["heap", "a", "b"])
        writer.writerows([["cat", "dog", "owl"][y], *x] for x, y in zip(X.tolist(), Y, strict=True))
    return path


def test_the_model_that_is_written_is_the_one_that_was_told_of(blobs, tmp_path):
    folder = tmp_path / "out"
    chain = "clip_by_global_norm:1 scale_by_adam exponential_decay:0.02,50,0.5"
    arguments = ("--label", "heap", "--units", "8", "--epochs", 10, "--tx", chain)
    arguments += ("--batch-size", 8)
    found = json.loads(run(blobs, *arguments, "--output", folder, "--json"))
    names = [stage["name"] for stage in found["stages"]]
    assert names == ["clip_by_global_norm", "scale_by_adam", "scale_by_learning_rate"]
    assert found["test_accuracy"] > 0.8

    inputs = json.loads((folder / "inputs.json").read_text())
    model = transfer.Zoo(folder).load("model")
    scaled = (X - np.array(inputs["mean"])) / np.array(inputs["deviation"])
    guesses = np.argmax(model(scaled.astype(np.float32)), axis=1)
    assert inputs["classes"] == ["cat", "dog", "owl"]
    assert np.mean(guesses == Y) > 0.8

    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found["epochs"]
    best = min(rows, key=lambda row: float(row["valid_loss"]))
    assert int(best["epoch"]) == found["best_epoch"]
    assert float(best["valid_loss"]) == found["valid_loss"]
    assert "blobs.csv" in (folder / "report.html").read_text()


def test_the_terminal_is_told_of_data_chain_and_mistakes(blobs):
    # One step too small to learn anything: most are mistaken, and it says for what.
    text = run(blobs, "--label", 1, "--units", "3", "--epochs", 1, "--optimizer", "sgd:1e-9")
    assert "blobs.csv: 77 to train, 19 to validate, 24 to test; 2 inputs, 3 classes" in text
    assert "learning_rate=1e-09" in text
    accuracy = float(text.split("accuracy ")[-1].split("%")[0]) / 100
    pairs = [line for line in text.splitlines() if " taken for " in line]
    mistaken = sum(int(line.split(": ")[1].split(" of ")[0]) for line in pairs)
    assert mistaken == round(24 * (1 - accuracy))
    assert all(
        label in "cat dog owl" for line in pairs for label in line.split(":")[0].split()[::3]
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tx", "adm:1"], "there is no 'adm'; nearest: adam"),
        (["--tx", "lbfgs"], "'lbfgs' does not work here"),
        (["--units", "8,x"], "--units must be widths such as 100,50"),
        (["--activation", "rel"], "nearest: relu"),
        (["--dropout", "1"], r"dropout_rate must lie in \[0, 1\)"),
        (["--label", "hap"], "the columns are heap, a, b"),
        (["--batch-size", "1000"], "batch_size must be at most the 77 training examples"),
    ],
)
def test_mistakes_are_told(blobs, arguments, words):
    with pytest.raises(ValueError, match=words):
        run(blobs, "--label", "heap", "--units", "4", "--epochs", 1, "--json", *arguments)


def test_a_loss_that_overflows_is_no_mistake_of_the_command_line(blobs, monkeypatch, capsys):
    arguments = ["fit", str(blobs), "--label", "heap", "--units", "4", "--tx", "sgd:1e30", "--json"]
    monkeypatch.setattr(sys, "argv", ["jaxopt-cards", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    out, err = capsys.readouterr()
    assert (exit_.value.code, out) == (1, "")
    assert err.startswith("jaxopt-cards: fit: the validation loss was never finite")
