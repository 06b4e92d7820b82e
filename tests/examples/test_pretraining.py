"""The example of pretraining runs every way, and its table and picture say what was measured."""

import importlib
import json
import sys

import matplotlib.image
import numpy as np
import pytest
from flax import nnx

from jaxopt_cards import data, layers


@pytest.fixture
def example():
    return importlib.import_module("pretraining")


def test_every_way_is_measured_told_and_drawn(example, monkeypatch, tmp_path, capsys):
    folder = tmp_path / "new"
    options = ["--data", "digits", "--seeds", "2", "--report", "--output", str(folder)]
    monkeypatch.setattr(sys, "argv", ["pretraining.py", *options])
    monkeypatch.setattr(example, "UNITS", {"digits": (30,)})
    monkeypatch.setattr(example, "ACTIVATIONS", ("elu",))
    monkeypatch.setattr(example, "LABELS", {"digits": (5, 50)})
    monkeypatch.setattr(example, "PRETRAINING_EPOCHS", {"digits": 2})
    monkeypatch.setattr(example, "EPOCHS", 40)
    example.main()

    results = json.loads((folder / "results.json").read_text())
    assert results["settings"]["labels a class"] == [5, 50]
    methods = ["from scratch", "autoencoder", "RBM", "corrupted", "ranking"]
    assert [row["method"] for row in results["rows"]] == methods
    printed = capsys.readouterr().out
    for row in results["rows"]:
        accuracy = np.array(row["accuracy"])
        assert accuracy.shape == (2, 2)
        for few_or_many in accuracy:
            cell = f"{few_or_many.mean():.1f} ± {few_or_many.std(ddof=1):.1f}"
            assert cell in printed
    page = (folder / "report.html").read_text()
    assert all(f'<th scope="row">{method}</th>' in page for method in methods)
    assert results["finding"] in printed
    assert "With elu, the greatest gain is that of" in results["finding"]
    few, many = np.array(results["rows"][0]["accuracy"])
    assert few.mean() < many.mean()
    picture = matplotlib.image.imread(folder / "pretraining.png")[..., :3]
    for colour in example.COLOURS:
        drawn = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (np.abs(picture - drawn).max(axis=-1) < 0.01).sum() > 50


@pytest.mark.parametrize("method", ["autoencoder", "RBM", "corrupted", "ranking"])
def test_pretraining_changes_the_hidden_layers_and_not_the_head(example, method):
    images = data.Splits(*(data.per_class(split, 10) for split in data.digits()))
    model = layers.MLP(64, 10, (12,), rngs=nnx.Rngs(0))
    pretrained = example.METHODS[method](model, images, 1, 0)
    np.testing.assert_array_equal(pretrained.logits.kernel[...], model.logits.kernel[...])
    assert not np.array_equal(pretrained.hidden1.kernel[...], model.hidden1.kernel[...])


def test_pairs_of_good_and_bad_lie_side_by_side(example):
    examples = data.per_class(data.digits().train, 3)
    both = example.side_by_side(example.good_or_bad(examples, seed=0))
    np.testing.assert_array_equal(both.x[:, 0], examples.x)
    # What is not the other image is the image itself: about half of it.
    kept = np.mean(both.x[:, 0] == both.x[:, 1], axis=1)
    assert np.all((kept >= 0.5) & (kept < 1))
