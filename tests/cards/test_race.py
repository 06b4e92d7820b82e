"""Races and schedules, in Python and on the command line."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from jaxopt_cards import cards
from jaxopt_cards.cards import racing as _race
from jaxopt_cards.cards import schedule_names as _schedules
from jaxopt_cards.cards.surfaces import SURFACES
from jaxopt_cards.cli import app
from jaxopt_cards.core.schedule_values import values_of
from jaxopt_cards.schedules import __all__ as all_schedules
from jaxopt_cards.schedules import exponential_decay


@pytest.fixture(scope="module")
def command():
    commands, runner = app(), CliRunner()

    def run(*arguments):
        return runner.invoke(commands, [str(argument) for argument in arguments])

    return run


def descent(rate, steps):
    """Gradient descent on the bowl, in NumPy."""
    points = [np.array(SURFACES["bowl"].start)]
    for _ in range(steps):
        points.append(points[-1] - rate * np.array([1, 2]) * points[-1])
    points = np.array(points)
    return points, 0.5 * points[:, 0] ** 2 + points[:, 1] ** 2


def arrival(heights):
    """As the documentation says it: after how many steps it is in the valley and stays there."""
    inside = heights <= 1e-3 * heights[0]
    return next((step for step in range(len(inside)) if inside[step:].all()), None)


def test_a_given_rate_is_the_one_that_is_run():
    (run,) = cards.race("bowl", ["sgd:lr=0.2"], steps=40)
    points, heights = descent(0.2, 40)
    np.testing.assert_allclose(run.path, points, atol=1e-6)
    np.testing.assert_allclose(run.heights, heights, atol=1e-6)
    assert run.steps_to_valley == arrival(heights)
    assert run.learning_rate is None


def test_the_rate_that_is_found_arrives_first_of_all():
    (run,) = cards.race("bowl", ["sgd"], steps=40)
    with np.errstate(over="ignore", invalid="ignore"):
        arrivals = {rate: arrival(descent(rate, 40)[1]) for rate in _race.RATES}
    first = min(step for step in arrivals.values() if step is not None)
    assert run.steps_to_valley == arrivals[run.learning_rate] == first


def test_who_never_arrives_ends_as_low_as_any_rate_would():
    (run,) = cards.race("rosenbrock", ["sgd"], steps=20)
    ends = [
        cards.race("rosenbrock", [f"sgd:lr={rate!r}"], steps=20)[0] for rate in _race.RATES[7:12]
    ]
    assert run.steps_to_valley is None
    assert run.heights[-1] <= np.nanmin([end.heights[-1] for end in ends]) * 1.001


def test_who_diverges_never_arrives():
    (run,) = cards.race("bowl", ["sgd:lr=5.0"], steps=200)
    assert not np.isfinite(run.heights[-1])
    assert run.steps_to_valley is None


def test_who_leaves_the_valley_again_is_not_yet_there():
    heights = np.array([1.0, 1e-4, 0.5, 1e-4, 1e-5])
    assert _race._arrival(heights, 1e-3) == arrival(heights) == 3


def test_line_searches_and_wrappers_race_as_well():
    lbfgs, wrapped, chain = cards.race(
        "bowl", ["lbfgs", "lookahead(sgd(0.4))", "clip:1.0 sgd:0.4"], steps=60
    )
    assert lbfgs.steps_to_valley < 10
    assert wrapped.steps_to_valley is not None
    assert np.abs(np.diff(chain.path, axis=0)).max() <= 0.4 + 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rosenbork", ["sgd"]), "'rosenbork'; nearest: rosenbrock"),
        (("bowl", ["adm"]), "'adm'; nearest: adam"),
        (("bowl", ["adam:beta=0.9"]), "adam: there is no argument 'beta'"),
        (("bowl", ["adam:b1=1.5"]), "adam: b1 must lie in [0, 1), got 1.5"),
        (("bowl", ["clip:1.0"]), "has no learning rate"),
        (("bowl", ["sgd"], 0), "race: steps must be a whole number >= 1, got 0"),
        (("bowl", ["sgd"], 10, (1.0,)), "race: start must be two finite numbers"),
        (("bowl", ["sgd"], 10, (1.0, np.nan)), "race: start must be two finite numbers"),
        (("bowl", ["sgd"], 10, (1e30, 0.0)), "start must be a point with finite height"),
        (("bowl", ["scale:abc"]), "'scale:abc' does not work here"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cards.race(*arguments)


def test_command_prints_a_table_and_json(command):
    arguments = ("race", "bowl", "sgd:lr=0.2", "sgd:lr=5.0", "--steps", "100", "--start", "1,-1")
    table = command(*arguments)
    assert table.exit_code == 0
    first, last = (line.split() for line in table.stdout.splitlines() if line.startswith("sgd"))
    assert first[:3] == ["sgd:lr=0.2", "as", "given"]
    assert last[3] == "–"
    told = json.loads(command(*arguments, "--json").stdout)
    assert first[3] == str(told["runs"][0]["steps_to_valley"])
    assert told["runs"][0]["points"][0] == [1.0, -1.0]
    assert told["runs"][1]["final_height"] is None


def test_help_names_every_surface(command):
    text = re.sub(r"\s+|│", "", command("race", "--help").stdout)
    assert all(name in text for name in SURFACES)


def test_command_writes_pictures_and_films(command, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for ending in ("png", "gif"):
        output = tmp_path / f"race.{ending}"
        told = command("race", "bowl", "sgd:lr=0.2", "--steps", "4", "--output", output)
        assert told.exit_code == 0, told.exception
        assert f"Wrote {output}" in told.stdout
        with image.open(output) as picture:
            assert getattr(picture, "n_frames", 1) == (1 if ending == "png" else 4)


@pytest.mark.parametrize("output", ["race.txt", "nowhere/race.png", "folder.png"])
def test_a_picture_that_cannot_be_written_is_refused_at_once(command, output, tmp_path):
    (tmp_path / "folder.png").mkdir()
    told = command("race", "bowl", "sgd", "--output", tmp_path / output)
    assert isinstance(told.exception, ValueError)
    assert output.split("/")[0] in str(told.exception)


def test_race_needs_no_matplotlib():
    code = (
        "import sys; sys.modules['matplotlib'] = None; from jaxopt_cards.cli import main;"
        "sys.argv[1:] = ['race', 'bowl', 'sgd:lr=0.1', *sys.argv[1:]]; main()"
    )

    def run(*more):
        return subprocess.run([sys.executable, "-c", code, *more], capture_output=True, text=True)

    plain, drawn = run(), run("--output", "race.png")
    assert plain.returncode == 0, plain.stderr
    assert "sgd:lr=0.1" in plain.stdout
    assert drawn.returncode == 2
    assert drawn.stderr.startswith("jaxopt-cards: --output: needs matplotlib")
    assert len(drawn.stderr.splitlines()) == 1


def test_schedules_are_shown_with_their_values(command):
    told = command("schedule", "exponential_decay:0.1,50,0.5", "constant:0.3", "--steps", "120")
    assert told.exit_code == 0, told.exception
    rows = [line.split() for line in told.stdout.splitlines() if re.match(r" *\d", line)]
    assert [int(row[0]) for row in rows] == [*range(0, 120, 12), 119]
    for step, value, fixed in rows:
        np.testing.assert_allclose(float(value), 0.1 * 0.5 ** (int(step) / 50), rtol=1e-3)
        assert fixed == "0.3"


def test_schedules_as_json_have_every_value(command):
    told = command("schedule", "exponential_decay:0.1,50,0.5", "--steps", "9", "--json")
    values = json.loads(told.stdout)["values"]["exponential_decay:0.1,50,0.5"]
    expected = [float(exponential_decay(0.1, 50, 0.5)(step)) for step in range(9)]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize("name", all_schedules)
def test_a_schedule_alone_is_shown_with_arguments_that_do_something(name):
    ((text, schedule),) = _schedules.built([name]).items()
    values = values_of(schedule, np.arange(_schedules.STEPS))
    assert text.startswith(f"{name}:")
    assert np.all(np.isfinite(values))
    assert (np.ptp(values) > 0) == (name != "constant")


def test_an_unknown_schedule_gets_the_nearest_names(command):
    told = command("schedule", "exponential")
    assert isinstance(told.exception, ValueError)
    assert "exponential_decay" in str(told.exception)


def test_schedule_writes_a_picture(command, tmp_path):
    output = tmp_path / "schedule.svg"
    assert command("schedule", "momentum_warmup", "--output", output).exit_code == 0
    assert output.read_text().lstrip().startswith("<?xml")
