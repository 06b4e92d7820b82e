"""The command line: what it prints to people, to pipes and to programs, and its mistakes."""

import json
import os
import pty
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from rich.cells import cell_len

from jaxopt_cards import cards
from jaxopt_cards.cli import main

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
BOXES = re.compile(r"[\u2500-\u257f]")
COMMAND = [sys.executable, "-c", "from jaxopt_cards.cli import main; main()"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command line in this process: its exit code, output and errors."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["jaxopt-cards", *arguments])
        with pytest.raises(SystemExit) as exit_:
            main()
        return exit_.value.code, *capsys.readouterr()

    return run


def in_terminal(*arguments):
    """What a terminal of 80 columns shows."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while more := os.read(ours, 4096):
            shown += more
    except OSError:  # the end, on Linux
        pass
    os.close(ours)
    assert process.wait() == 0
    return shown.decode()


def test_list_has_a_line_for_each_technique(run):
    code, out, err = run("list")
    assert (code, err) == (0, "")
    lines = [line.split(maxsplit=2) for line in out.splitlines()]
    assert lines == [[c.name, c.kind, c.summary] for c in cards.catalogue().values()]


def test_list_of_a_kind_and_as_json(run):
    _, out, _ = run("list", "--kind", "schedule", "--json")
    schedules = [card for card in cards.catalogue().values() if card.kind == "schedule"]
    assert [each["name"] for each in json.loads(out)] == [card.name for card in schedules]
    assert json.loads(out)[0]["summary"] == schedules[0].summary


@pytest.mark.parametrize("name", cards.catalogue())
def test_show_prints_every_card_plainly_into_a_pipe(run, name):
    code, out, err = run("show", name)
    card = cards.card(name)
    assert (code, err) == (0, "")
    assert out.startswith(f"{name} ({card.kind})\n\n")
    before, example = out.split("\nExample\n")
    assert example.rstrip("\n") == card.example
    assert not ESCAPES.search(out)
    assert not BOXES.search(out)
    assert ":math:" not in out
    for line in before.splitlines():
        assert cell_len(line) <= 80
        assert line == line.rstrip()
    words = " ".join(before.split())
    for text in (card.summary, *card.references, card.use_when, card.avoid_when):
        assert " ".join(text.replace("`", "").split()) in words
    for argument in card.arguments:
        assert argument.name.lstrip("*")[:26] in words


def test_show_as_json_is_the_card(run):
    _, out, _ = run("show", "adabound", "--json")
    content, card = json.loads(out), cards.card("adabound")
    assert content["equation"] == card.equation
    assert content["arguments"][1] == card.arguments[1]._asdict()
    assert content["raises"] == [{"exception": "ValueError", "when": card.raises[0][1]}]
    assert content["facts"]["state_bytes"] == card.facts.state_bytes


def test_show_explains_symbols_of_another_card(run):
    _, out, _ = run("show", "adabound")
    assert "Equation of scale_by_adabound\n    μₜ = β₁ μₜ₋₁ + (1 \u2212 β₁) gₜ\n" in out


def test_compare_puts_techniques_side_by_side(run):
    _, out, _ = run("compare", "momentum", "nesterov", "adam", "momentum")
    costs = [line.split() for line in out.splitlines() if line.endswith(" params")]
    facts = cards.card("adam").facts
    numbers = [f"{each:g}" for each in (facts.state_bytes, facts.passes, facts.operations)]
    assert costs[2] == ["adam", *numbers, "no", "yes", "params"]
    assert ["b1", "–", "–", "0.9"] in [line.split() for line in out.splitlines()]
    assert "Arguments that are the same\nlearning_rate\n" in out
    assert cards.card("nesterov").use_when.replace("`", "") in " ".join(out.split())


def test_compare_as_json(run):
    _, out, _ = run("compare", "adam", "Dropout", "--json")
    content = json.loads(out)
    assert [each["name"] for each in content["techniques"]] == ["adam", "Dropout"]
    assert content["techniques"][1]["facts"] is None
    assert content["arguments"]["b1"] == {"adam": "0.9"}
    assert content["arguments"]["rate"] == {"Dropout": "required"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "adabuond"], "got 'adabuond'; nearest: adabound"),
        (["show", "chain"], "chain is a function of Optax"),
        (["compare", "adam", "sdg"], "got 'sdg'; nearest: sgd"),
        (["compare", "adam"], "give two names or more"),
        (["lits"], "Did you mean 'list'?"),
        (["list", "--kind", "optimiser"], "'optimizer'"),
        (["show"], "Missing argument"),
        (["show", "lamb"], "it is Optax's: optax.lamb"),
    ],
)
def test_a_mistake_ends_with_status_2_and_says_what_was_meant(run, arguments, message):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert not BOXES.search(err)


def test_a_full_disk_is_told_in_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "list"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("jaxopt-cards: [Errno 28]")
    assert "Traceback" not in done.stderr


def test_the_version_is_told(run):
    assert run("--version") == (0, f"{version('jaxopt_cards')}\n", "")


@pytest.mark.parametrize(
    "arguments", [["list"], ["show", "lookahead"], ["compare", "adam", "amsgrad", "adabound"]]
)
def test_a_terminal_of_80_columns_gets_colours(arguments):
    shown = in_terminal(*arguments)
    assert ESCAPES.search(shown)
    lines = ESCAPES.sub("", shown).splitlines()
    assert all(cell_len(line) <= 80 for line in lines)
    assert bool(BOXES.search(shown)) == (arguments[0] == "show")


@pytest.mark.parametrize("arguments", [["list"], ["list", "--json"], ["show", "adam"]])
def test_a_reader_may_leave_early(arguments):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*COMMAND, *arguments], text=True, **pipes)
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 1  # it has noticed


def test_text_commands_need_neither_jax_nor_a_unicode_terminal():
    code = (
        "import sys; from jaxopt_cards.cli import main; sys.argv[1:] = ['show', 'adam']\n"
        "try: main()\n"
        "finally: print(*{'jax', 'numpy', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, env=environment
    )
    assert done.stderr.split() == []
    assert "adam (optimizer)" in done.stdout


def test_shells_complete_names():
    words = {"COMP_WORDS": "jaxopt-cards show amsb", "COMP_CWORD": "2"}
    environment = os.environ | words | {"_JAXOPT_CARDS_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv[:] = ['jaxopt-cards']; " + COMMAND[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.stdout.split() == ["amsbound"]


def test_show_of_a_users_function(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    (tmp_path / "half.py").write_text(
        'def half(factor=0.5):\n    """Halves.\n\n    Equation:\n        .. math:: u = a g\n\n'
        "    Args:\n        factor: float.\n\n    Returns:\n        A transformation.\n\n"
        '    Use when: always.\n    Avoid when: never.\n    """\n'
    )
    code, out, err = run("show", "half:half")
    assert (code, err) == (0, "")
    assert out.startswith("half (transformation)\n\nHalves.\n")
    assert "from half import half\nhalf(factor=0.5)\n" in out
    assert not re.search(r"^(State|Raises|References|Example)$", out, re.MULTILINE)
    code, out, err = run("show", "half:whole")
    assert (code, out) == (2, "")
    assert "name must be module:function, got 'half:whole': module 'half' has no attribute" in err
