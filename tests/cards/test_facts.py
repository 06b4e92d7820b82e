"""The measured facts are those that a new measurement gives, and those that are known."""

import json
import math

import jax
import pytest

from jaxopt_cards import cards
from jaxopt_cards.cards import facts as _facts
from jaxopt_cards.cards import measure

WRITTEN = _facts.measured()["techniques"]
SAME_COMPILER = (jax.__version__, jax.default_backend()) == (
    _facts.measured()["jax"],
    _facts.measured()["platform"],
)


def test_everything_that_makes_a_transformation_is_measured():
    assert WRITTEN.keys() == measure.transformations().keys()
    with_facts = {name for name, card in cards.catalogue().items() if card.facts}
    assert with_facts == WRITTEN.keys()
    optimizers = {name for name, card in cards.catalogue().items() if card.kind == "optimizer"}
    assert optimizers < with_facts


@pytest.mark.parametrize("name", WRITTEN)
def test_a_new_measurement_says_the_same(name):
    written, again = cards.card(name).facts, measure.measure(name)
    compiled = {"passes", "operations"}  # how many, the compiler decides
    for field in _facts.Facts._fields:
        if field not in compiled or SAME_COMPILER:
            assert getattr(again, field) == getattr(written, field), field
    assert all(0 < getattr(again, field) < math.inf for field in compiled)


@pytest.mark.parametrize(
    ("name", "arrays"),
    {
        "sgd": 0,
        "momentum": 1,
        "adagrad": 1,
        "adam": 2,
        "adadelta": 2,
        "amsgrad": 3,
        "clip": 0,
    }.items(),
)
def test_state_is_the_arrays_that_the_docstring_names(name, arrays):
    assert cards.card(name).facts.state_bytes == 4 * arrays


def test_what_is_known_of_some():
    facts = {name: cards.card(name).facts for name in WRITTEN}
    whole = {name for name, each in facts.items() if not each.elementwise}
    clips = {"clip_by_norm", "clip_by_global_norm", "clip_by_block_rms", "adaptive_grad_clip"}
    assert whole == clips | {"lbfgs", "max_norm", "skip_nonfinite"}
    for name, needed in {"adamw": True, "adam": False, "max_norm": True, "ftrl": True}.items():
        assert facts[name].needs_params is needed
    # One gradient read and one update written, one multiplication each.
    assert (facts["sgd"].passes, facts["sgd"].operations) == (2, 1)
    assert set(facts["adam"].traced) == {"learning_rate", "b1", "b2", "eps", "eps_root"}
    assert facts["compress_state"].traced == ()
    assert facts["compress_state"].settings == "inner=adam(0.1)"
    assert facts["compress_state"].state_bytes == 4


def test_measuring_writes_the_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measure, "__file__", str(tmp_path / "measure.py"))
    monkeypatch.setattr(measure, "transformations", lambda: ["sgd"])
    measure.main()
    content = json.loads((tmp_path / _facts.FILE).read_text())
    assert content["jax"] == jax.__version__
    assert list(content["techniques"]) == ["sgd"]
    assert "1 technique" in capsys.readouterr().out
