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
    results = json.loads(maker.RESULTS.read_text())
    assert maker.MARKED.search(readme)
    assert maker.updated(readme, results) == readme
    assert results["settings"]["data"] == "mnist"
    for row in results["rows"]:
        assert len(row["accuracy"]) >= 5
        assert np.mean(row["accuracy"]) > row["notebook"]


def test_the_example_runs(readme, capsys):
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL).group(1)
    # As in a user's process; the tests' own are stricter.
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        exec(compile(example, "README.md", "exec"), {})
    assert "accuracy" in capsys.readouterr().out


def test_linked_files_exist(readme, pytestconfig):
    for target in re.findall(r"\]\(([^)#]+)\)", readme):
        if "://" not in target:
            assert (pytestconfig.rootpath / target).exists(), target
