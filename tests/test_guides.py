"""The guides' code runs as it stands, and does what the text around it says."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training, transfer
from tests import torch_steps

GUIDES = [
    "index",
    "how_to_choose",
    "guides/compose",
    "guides/write_your_own",
    "guides/many_runs",
    "guides/from_optax",
    "guides/from_pytorch",
    "guides/from_keras",
]


@pytest.fixture
def text(pytestconfig):
    """The text of a guide."""
    docs = pytestconfig.rootpath / "docs"
    return lambda guide: (docs / f"{guide}.md").read_text()


@pytest.fixture
def run(text, tmp_path, monkeypatch):
    """Runs all Python blocks of a guide, one after the other, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAXOPT_CARDS_DATA", raising=False)

    def run(guide):
        blocks = python_blocks(text(guide))
        names = {}
        # As in a user's process; the tests' own are stricter.
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            for block in blocks:
                exec(compile(block, f"{guide}.md", "exec"), names)
        return blocks, names

    return run


def python_blocks(guide):
    return re.findall(r"```python\n(.*?)```", guide, re.DOTALL)


@pytest.mark.parametrize("guide", GUIDES)
def test_the_code_runs(run, guide):
    blocks, names = run(guide)
    assert blocks
    if "result" in names and guide in ("index", "how_to_choose", "guides/from_keras"):
        accuracy = training.evaluate(names["result"].model, *names["test"])["accuracy"]
        assert accuracy > 0.9


def test_the_contributors_optimizer_is_optaxs(run):
    _, names = run("contributing")
    params = {"w": jnp.array([1.0, -2.0])}
    ours, theirs = names["lion"](0.1), optax.lion(0.1)
    updates, state = ours.update(params, ours.init(params), params)
    expected, expected_state = theirs.update(params, theirs.init(params), params)
    np.testing.assert_allclose(updates["w"], expected["w"], rtol=1e-6)
    assert jax.tree.structure(state) == jax.tree.structure(expected_state)


def test_several_devices(text, tmp_path):
    code = "\n".join(python_blocks(text("guides/several_devices")))
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    devices, spec, measured = done.stdout.splitlines()
    assert devices == "8"
    assert spec.endswith("(None, 'model')")
    assert "accuracy" in measured


def test_the_terminal(text, tmp_path):
    commands = re.findall(r"^jaxopt-cards (.*)$", text("guides/in_the_terminal"), re.MULTILINE)
    quick = [c for c in commands if c.split()[0] in ("list", "show", "compare", "schedule")]
    assert len(quick) >= 5
    program = Path(sys.executable).with_name("jaxopt-cards")
    for command in quick:
        done = subprocess.run([program, *shlex.split(command)], cwd=tmp_path, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout


def test_reusing_a_trained_network(run, pytestconfig, tmp_path, capsys):
    foreign = pytestconfig.rootpath / "tests" / "transfer" / "foreign"
    shutil.copy(foreign / "torch.pt", tmp_path / "net.pt")
    blocks, names = run("guides/reusing_a_trained_network")
    code = [line for line in blocks[0].splitlines() if line and not line.startswith("#")]
    assert len(code) < 30
    printed = capsys.readouterr().out
    assert "taken    hidden1/kernel" in printed
    assert "taken    hidden2_norm/mean from norm2/mean" in printed
    assert "% from scratch" in printed
    assert names["accuracy"] > 0.8
    assert "even-or-odd" in printed
    good, bad = jax.nn.softmax(names["reader"](names["pair"]))[:, 1]
    assert good > 0.7
    assert bad < 0.1


def test_the_notes_say_what_their_code_prints(run, text, capsys):
    run("notes")
    printed = capsys.readouterr().out
    expected = re.findall(r"^# (.*)$", "\n".join(python_blocks(text("notes"))), re.MULTILINE)
    assert len(expected) >= 6
    for line in expected:
        assert line in printed


@pytest.mark.parametrize("guide", [*GUIDES, "guides/several_devices"])
def test_what_tables_name_is_there(text, guide):
    modules = {"jc": jc, "data": data, "layers": layers, "training": training}
    modules |= {"transfer": transfer}
    calls = re.findall(r"\b(jc|data|layers|training|transfer)\.([a-z]\w*)(?:\.(\w+))?", text(guide))
    assert calls or guide == "how_to_choose"
    for module, name, attribute in calls:
        if module == "jc" and name in modules:
            continue
        thing = getattr(modules[module], name)
        if name == "schedules" and attribute:
            assert callable(getattr(thing, attribute))


def test_what_is_said_to_be_in_both_is_in_both(text):
    table = text("guides/from_optax").split("## The same names")[1].split("The classes of")[0]
    names = re.findall(r"`(\w+)`", table)
    assert len(names) > 40
    for name in names:
        assert callable(getattr(optax, name))
        assert callable(getattr(jc, name))


def test_what_is_said_to_be_new_is_new(text):
    new = text("guides/from_optax").split("## Not in Optax")[1].split("##")[0]
    names = re.findall(r"~jaxopt_cards\.(\w+)`", new)
    assert len(names) > 15
    assert not [name for name in names if hasattr(optax, name)]


@pytest.mark.parametrize(("theirs", "ours"), torch_steps.rows())
def test_pytorch_takes_the_same_steps(theirs, ours):
    ended = json.loads(torch_steps.FILE.read_text())
    tx, params = eval(ours, {"jc": jc}), jnp.ones(5)
    state = tx.init(params)
    for gradient in torch_steps.gradients():
        updates, state = tx.update(jnp.asarray(gradient), state, params)
        params = jc.apply_updates(params, updates)
    np.testing.assert_allclose(params, ended[theirs], rtol=1e-4)


def test_the_table_of_pytorch_has_its_rows():
    ended = json.loads(torch_steps.FILE.read_text())
    assert {theirs for theirs, _ in torch_steps.rows()} == ended.keys() - {"torch"}
    assert len(ended) == 12
