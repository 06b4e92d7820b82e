"""Every topic example runs, measures finite numbers, draws, and concludes from its own table."""

import importlib
import itertools
import json
import math
import sys

import matplotlib.image
import pytest

import jaxopt_cards as jc


class First(int):
    """So many entries of what is there: a dictionary, or a function that returns one."""

    def of(self, there):
        if callable(there):
            return lambda *arguments: self.of(there(*arguments))
        return dict(itertools.islice(there.items(), self))


# The example, and what makes it quick enough for a test.
TOPICS = {
    "activations": {"NAMES": {"ReLU": ("relu", "he_normal"), "RReLU": ("rrelu", "he_normal")}},
    "augmentation_gain": {"STRENGTHS": (1.0,), "OPERATIONS": ("shift",)},
    "averaging_and_lookahead": {"RATES": (1e-3,)},
    "batch_normalization": {"INITIALIZERS": {"He": "he_normal"}},
    "batch_normalization_claims": {},
    "batchings": {"RATES": (0.01, 0.1), "UPRIGHT": 1, "TURNING": 1, "LYING": 1},
    "compressed_state": {"RATES": (1e-3,)},
    "default_configuration": {"RATES": (1e-3,), "configurations": First(2)},
    "depth": {"DEPTHS": (1, 2), "RATES": (1e-3,)},
    "dropout": {"RATES": (0.2,), "KINDS": {"dropout": "dropout_rate"}, "PASSES": 2},
    "dying_relus": {"RATES": (0.01, 0.1), "ADAM_RATES": ()},
    "early_stopping": {"PATIENCES": (1,)},
    "gradient_clipping": {"RATES": (1e-3, 1e-2), "CLIPPINGS": First(3)},
    "initialization": {"RATES": (1e-2,)},
    "layer_speeds": {},
    "max_norm_constraint": {"RADII": (1.0,), "RATES": (0.01, 0.02)},
    "momentum_raised": {"RATES": (0.01, 0.03)},
    "optimizer_comparison": {
        "FAMILIES": {"one": {"sgd": jc.sgd}, "two": {"adam": jc.adam}},
        "RATES": (1e-3, 10.0),
    },
    "optimizer_claims": {
        "UNITS": (12,),
        "RATES": (0.01, 0.03),
        "STRENGTHS": (0.1,),
        "PRUNED": (0.5,),
        "DIMENSION": 50,
    },
    "penalties": {"STRENGTHS": {"term": (1e-3,), "decay": (0.1,)}, "KINDS": First(1)},
    "questions": {"STEPS": 150, "UNITS": (12,)},
    "schedule_comparison": {"MULTIPLES": (1,)},
    "sparse_models": {"SHARES": (0.5,), "STRENGTHS": (0.1,), "FTRL_STRENGTHS": (0.1,)},
}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs an example as from the command line, and returns its folder."""

    def run(name, *arguments):
        example = importlib.import_module(name)
        for constant, value in TOPICS[name].items():
            there = getattr(example, constant)
            value = value.of(there) if isinstance(value, First) else value
            monkeypatch.setattr(example, constant, value)
        options = ["--seeds", "1", "--epochs", "2", "--output", str(tmp_path / name), *arguments]
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *options])
        example.main()
        return tmp_path / name

    return run


def numbers(cell):
    """All numbers of a cell."""
    if isinstance(cell, str):
        return []
    return cell if isinstance(cell, list) else [cell]


@pytest.mark.parametrize("name", TOPICS)
def test_an_example_measures_draws_and_concludes(run, name, capsys):
    folder = run(name)
    results = json.loads((folder / "results.json").read_text())
    rows = results["rows"]
    assert len(rows) > 1
    assert all(list(row) == list(rows[0]) for row in rows)
    measured = [number for row in rows for cell in row.values() for number in numbers(cell)]
    assert measured
    assert all(math.isfinite(number) for number in measured)
    names = [next(iter(row.values())) for row in rows]
    assert "hold here" in results["conclusion"] or any(
        name in results["conclusion"] for name in names
    )
    printed = capsys.readouterr().out
    assert results["conclusion"] in printed
    assert results["title"] == sys.modules[name].__doc__.splitlines()[0]
    pictures = list(folder.glob("*.png"))
    assert pictures
    for picture in pictures:
        assert matplotlib.image.imread(picture)[..., :3].std() > 0.02
        assert picture.name in printed


@pytest.mark.parametrize("option", ["--seeds", "--epochs"])
def test_a_bad_option_is_explained(run, option, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("layer_speeds", option, "0")
    assert f"{option} must be at least 1, got 0" in capsys.readouterr().err
