"""The README's table is the one that the results give, and its example runs."""

import importlib.util
import json
import re

import jax
import numpy as np
import pytest


@pytest.fixture
def readme(pytestconfig):
    return (pytestconfig.rootpath / "README.md").read_text()


@pytest.fixture
def maker(pytestconfig):
    path = pytestconfig.rootpath / "docs" / "readme.py"
    spec = importlib.util.spec_from_file_location("readme_maker", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_made_from_the_results(readme, maker):
    results = {number: json.loads(path.read_text()) for number, path in maker.RESULTS.items()}
    assert maker.updated(readme, results, json.loads(maker.SPEED.read_text())) == readme
    for exercise in results.values():
        assert exercise["settings"]["data"] == "mnist"
        for row in exercise["rows"]:
            assert len(row["accuracy"]) >= 5
            assert np.mean(row["accuracy"]) > (row["notebook"] or 0)


def test_the_examples_run_one_after_the_other(readme, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(examples) == 4
    names = {}
    # As in a user's process; the tests' own are stricter.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        for example in examples:
            exec(compile(example, "README.md", "exec"), names)
    assert (tmp_path / "report.html").exists()
    printed = capsys.readouterr().out
    accuracy = float(re.search(r"'accuracy': ([\d.]+)", printed).group(1))
    assert accuracy == pytest.approx(0.92, abs=0.02)
    assert "taken    hidden2/kernel\nskipped  logits/bias: not selected by the mask" in printed


def test_linked_files_exist(readme, pytestconfig):
    for target in re.findall(r"\]\(([^)#]+)\)", readme):
        if "://" not in target:
            assert (pytestconfig.rootpath / target).exists(), target
