"""The guides' code runs as it stands, and does what the text around it says."""

import re
import shutil

import jax
import pytest


@pytest.fixture
def run(pytestconfig, tmp_path, monkeypatch):
    """Runs all Python blocks of a guide, one after the other, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAXOPT_CARDS_DATA", raising=False)

    def run(guide):
        text = (pytestconfig.rootpath / "docs" / "guides" / f"{guide}.md").read_text()
        blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        names = {}
        # As in a user's process; the tests' own are stricter.
        with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
            for block in blocks:
                exec(compile(block, f"{guide}.md", "exec"), names)
        return blocks, names

    return run


def test_reusing_a_trained_network(run, pytestconfig, tmp_path, capsys):
    foreign = pytestconfig.rootpath / "tests" / "transfer" / "foreign"
    shutil.copy(foreign / "torch.pt", tmp_path / "net.pt")
    blocks, names = run("reusing_a_trained_network")
    code = [line for line in blocks[0].splitlines() if line and not line.startswith("#")]
    assert len(code) < 30
    printed = capsys.readouterr().out
    assert "taken    hidden1/kernel" in printed
    assert "taken    hidden2_norm/mean from norm2/mean" in printed
    assert "% from scratch" in printed
    assert names["accuracy"] > 0.8
    assert "even-or-odd" in printed
