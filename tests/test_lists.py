"""The lists of what is public are those that `make lists` writes."""

import importlib.util
from pathlib import Path

import pytest

from jaxopt_cards.cards import facts, measure

ROOT = Path(__file__).parent.parent
STUBS = sorted((ROOT / "jaxopt_cards").rglob("__init__.pyi"))
MESSAGE = "is out of date: run `make lists`"


@pytest.fixture(scope="module")
def lists():
    spec = importlib.util.spec_from_file_location("lists_maker", ROOT / "docs" / "lists.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.parent.name)
def test_the_stub_lists_what_is_declared(lists, path):
    assert path.read_text() == lists.stub(path), f"{path} {MESSAGE}"


def test_the_readme_lists_every_technique(lists):
    assert lists.readme() == lists.README.read_text(), f"README.md {MESSAGE}"


def test_every_transformation_has_facts():
    assert facts.measured()["techniques"].keys() == measure.transformations().keys(), MESSAGE


def test_a_new_function_is_listed_and_a_removed_one_is_not(lists, tmp_path):
    (tmp_path / "sums.py").write_text(
        "@declare\ndef total(): ...\n@declare(elementwise=True)\ndef mean(): ...\n"
        "class Sum: ...\nclass Other: ...\nLIMIT: int = 3\ndef helper(): ...\n"
    )
    stub = tmp_path / "__init__.pyi"
    stub.write_text('"""Sums."""\n\nfrom .sums import LIMIT, Sum, gone\n')
    assert lists.stub(stub) == (
        '"""Sums."""\n\n'
        "from .sums import LIMIT, Sum, mean, total\n\n"
        '__all__ = ["LIMIT", "Sum", "mean", "total"]\n'
    )
