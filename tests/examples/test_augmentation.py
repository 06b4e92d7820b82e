"""The sheet of augmented digits is drawn."""

import importlib
import sys

import matplotlib.image
import numpy as np
import pytest


@pytest.fixture
def example():
    return importlib.import_module("augmentation")


def test_the_sheet_is_drawn_in_grey(example, monkeypatch, tmp_path, capsys):
    options = ["--data", "digits", "--report", "--output", str(tmp_path / "new")]
    monkeypatch.setattr(sys, "argv", ["augmentation.py", *options])
    monkeypatch.setattr(example, "VERSIONS", 2)
    monkeypatch.setattr(
        example, "SETTINGS", {name: example.SETTINGS[name] for name in ("elastic", "crop", "flip")}
    )
    example.main()
    picture = matplotlib.image.imread(tmp_path / "new" / "augmentation.png")[..., :3]
    assert np.ptp(picture, axis=-1).max() < 0.01
    assert len(np.unique(picture)) > 16
    assert "Wrote augmentation.png, from digits, into" in capsys.readouterr().out
    page = (tmp_path / "new" / "report.html").read_text()
    assert "<h1>Data augmentation: a sheet of digits" in page
    assert "data:image/png" in page


def test_strengths_in_pixels_go_with_the_size(example):
    asked = example.SETTINGS["elastic"] | {"rotation": 25, "crop": 4, "flip": True}
    assert example.for_size(asked, 28) == asked | {"elastic": (asked["elastic"], 4.0)}
    half = {"elastic": (0.7, 2.0), "rotation": 25, "crop": 2, "flip": True}
    assert example.for_size(asked, 14) == half
