"""What the site needs beyond Sphinx: formulas, examples as pages, docstrings."""

import ast
import inspect
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from jaxopt_cards import cards

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SPACE = "{http://www.w3.org/1998/Math/MathML}"


@pytest.fixture(autouse=True)
def site(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    monkeypatch.syspath_prepend(str(ROOT / "examples"))


@pytest.mark.parametrize("card", cards.catalogue().values(), ids=lambda card: card.name)
def test_each_formula_becomes_mathml(card):
    from _site.mathml import mathml

    formulas = re.findall(r":math:`(.*?)`", card.symbols)
    blocks = [card.equation] if card.equation else []
    for latex, display in [*((b, "block") for b in blocks), *((f, "inline") for f in formulas)]:
        tree = ElementTree.fromstring(mathml(latex, display))
        assert tree.get("display") == display
        assert "".join(tree.itertext()).strip()


def test_lines_are_aligned():
    from _site.mathml import mathml

    tree = ElementTree.fromstring(
        mathml(r"a &= b \\ c &= \begin{cases} d & e \end{cases}", "block")
    )
    rows = tree.find(f".//{SPACE}mtable").findall(f"{SPACE}mtr")
    assert [len(row.findall(f"{SPACE}mtd")) for row in rows] == [2, 2]


def test_the_bars_of_a_norm_keep_their_height():
    from _site.mathml import mathml

    tree = ElementTree.fromstring(mathml(r"\frac{c}{\lVert g \rVert_2}", "block"))
    bars = [mo for mo in tree.iter(f"{SPACE}mo") if mo.text == "‖"]
    assert [bar.get("stretchy") for bar in bars] == ["false", "false"]


@pytest.mark.parametrize("latex", [r"\undefined x", r"\left( a", "a^"])
def test_a_formula_that_cannot_be_read_is_an_error(latex):
    from _site.mathml import mathml

    with pytest.raises(ValueError, match=r"cannot be read|not supported"):
        mathml(latex, "block")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_keeps_its_code_and_gets_a_heading(path):
    from _site.examples import _source

    made = _source(path, ROOT / "docs" / "results")
    page, ours = ast.parse(made), ast.parse(path.read_text())
    assert [ast.dump(node) for node in page.body[1:]] == [ast.dump(n) for n in ours.body[1:]]
    title, underline = ast.get_docstring(page).splitlines()[:2]
    assert underline == "=" * len(title)
    assert ast.get_docstring(ours).startswith(title)


def test_results_are_shown_with_their_numbers(tmp_path):
    from _site.examples import _source

    (tmp_path / "results" / "topic").mkdir(parents=True)
    (tmp_path / "results" / "topic" / "curve.png").touch()
    (tmp_path / "results" / "topic" / "results.json").write_text(
        '{"settings": {"data": "digits"}, "conclusion": "a * b_ wins.",'
        ' "rows": [{"name": "first", "accuracy": [90.0, 92.0]}]}'
    )
    example = tmp_path / "topic.py"
    example.write_text('"""Topic: in short.\n\npython examples/topic.py\n"""\n\nX = 1\n')
    made = _source(example, tmp_path / "results")
    assert "   * - first\n     - 91.00 ± 1.41\n" in made
    assert r"a \* b\_ wins." in made
    assert ".. code-block:: sh\n\n    python examples/topic.py\n" in made
    assert ".. image:: /results/topic/curve.png" in made
    assert '# sphinx_gallery_thumbnail_path = "results/topic/curve.png"\n' in made


def test_means_of_epochs_have_one_digit():
    from topics import shown

    assert shown(16 / 3, "best epoch") == "5.3"
    assert shown(16 / 3, "validation loss") == "5.333"


def test_all_cards_of_a_term_are_found_by_it():
    from _site.cards import _terms

    assert "! weight decay" in _terms("adamw")
    assert "! weight decay" in _terms("add_decayed_weights")


def test_the_api_leads_from_each_name_to_its_card():
    from _site.api import pages

    text = "\n".join(pages().values())
    for card in cards.catalogue().values():
        assert f"- {{py:obj}}`{card.name} <{card.module}.{card.name}>`: {card.summary}" in text
    assert ".. autofunction:: adam" not in text
    assert ".. autoclass:: FitResult\n   :members:" in text


def test_an_argument_is_code_and_other_names_are_left():
    from _site.docstrings import process

    def technique(momentum):
        pass

    lines = [
        "Scales by `momentum`, unlike `nesterov`.",
        "",
        "Use when: it helps.",
        "Avoid when: not.",
    ]
    process(None, "function", "technique", technique, None, lines)
    assert "\n".join(lines).rstrip() == (
        "Scales by ``momentum``, unlike `nesterov`.\n\n**Use when** it helps.\n\n"
        "**Avoid when** not."
    )


def test_every_public_name_is_on_a_page_of_the_api():
    from _site.api import modules, pages

    text = "\n".join(pages().values())
    for module in modules():
        for name in module.__all__:
            thing = getattr(module, name)
            listed = rf"`{name}[ `]|^\.\. auto\w+:: {name}$|^\.\. data:: {name}$"
            assert inspect.ismodule(thing) or re.search(listed, text, re.MULTILINE), name
