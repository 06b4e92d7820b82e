"""The pages say what the results say."""

import importlib.util

import pytest


@pytest.fixture
def pages(pytestconfig):
    path = pytestconfig.rootpath / "docs" / "pages.py"
    spec = importlib.util.spec_from_file_location("pages", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_marked_parts_are_what_the_results_say(pages):
    for name in pages.PAGES:
        text = (pages.DOCS / name).read_text()
        assert pages.PART.search(text), name
        assert pages.updated(text) == text, f"run docs/pages.py: {name}"


def test_every_question_has_its_measurements(pages):
    text = (pages.DOCS / "questions.md").read_text()
    marks = [key for example, key, _ in pages.PART.findall(text) if example == "questions"]
    assert marks == list("1234567")


def test_an_unknown_row_is_an_error(pages):
    with pytest.raises(AssertionError, match="questions has no row 8"):
        pages.updated("<!-- questions: 8 -->\n<!-- end -->")
