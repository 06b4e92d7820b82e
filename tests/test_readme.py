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


def test_the_tables_are_made_from_the_results(maker):
    results = {number: json.loads(path.read_text()) for number, path in maker.RESULTS.items()}
    pages = "".join(path.read_text() for path in maker.PAGES)
    assert maker.updated(pages, results, json.loads(maker.SPEED.read_text())) == pages
    for found in results.values():
        for part in (maker.table, maker.answers, maker.settings_table):
            assert pages.count(part(found)) == 1


def test_the_results_are_those_of_mnist_and_say_what_is_below_the_notebook(maker):
    for path in maker.RESULTS.values():
        exercise = json.loads(path.read_text())
        assert exercise["settings"]["data"] == "mnist"
        for row in exercise["rows"]:
            assert len(row["accuracy"]) >= 5
            # What is compared does what the exercise says; what is worse is told.
            assert (row["notebook"] is not None) == row["row"].endswith(" letter")
            below = np.mean(row["accuracy"]) < (row["notebook"] or 0)
            assert below == (f"{row['row']} (" in exercise["answers"]["Notebook"])


def test_rows_to_the_letter_have_nothing_else(maker):
    extras = set()
    for path in maker.RESULTS.values():
        for row in json.loads(path.read_text())["rows"]:
            if row["row"].endswith(" letter"):
                assert re.fullmatch(r"adam\(learning_rate=[\d.e-]+\)", row["settings"]["optimizer"])
                assert "relu" not in row["settings"]["network"]
                assert row["settings"]["epochs"] == 1000 or row["settings"]["patience"] is None
                extras |= set(row["settings"]["extras"])
    assert extras <= {"kept", "loss", "trainable"}


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
