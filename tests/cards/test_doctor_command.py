import json

import numpy as np
import pytest
from flax import nnx
from typer.testing import CliRunner

from jaxopt_cards import cards, data, layers
from jaxopt_cards.cli import app


def run(*arguments):
    result = CliRunner().invoke(app(), ["doctor", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_numbers_are_those_of_layer_statistics():
    text = run("tanh/normal/2", "--width", "8", "--seed", "3", "--json")
    (found,) = json.loads(text)["models"]
    x, y = data.digits().train
    model = layers.MLP(64, 10, (8, 8), "tanh", "normal", rngs=nnx.Rngs(3))
    expected = cards.layer_statistics(model, x[:500], y[:500])
    assert found["spec"] == "tanh/normal/2"
    for row, wanted in zip(found["layers"], expected, strict=True):
        assert row == pytest.approx(wanted._asdict())


def test_several_stand_side_by_side_and_defaults_are_filled_in(tmp_path):
    picture = tmp_path / "doctor.png"
    text = run("logistic/glorot_normal/4", "relu//2", "elu", "--output", str(picture))
    lines = text.splitlines()
    assert lines[0].startswith("(1) logistic/glorot_normal/4: the gradient vanishes by a factor")
    assert lines[1:3] == ["(2) relu/he_normal/2: healthy", "(3) elu/he_normal/5: healthy"]
    title = lines.index("gradient by the activations")
    rows = [line.split() for line in lines[title + 1 :] if line.strip().startswith("hidden")][:5]
    assert [len(row) for row in rows] == [4, 4, 3, 3, 2]
    assert np.all(np.diff([float(row[1]) for row in rows[:4]]) > 0)
    assert max(map(len, lines[3:-1])) <= 80
    assert lines[-1] == f"Wrote {picture}"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_one_alone_has_all_columns_in_80():
    lines = run("tanh/normal/2", "--width", "8").splitlines()
    heading = next(line for line in lines if "layer" in line)
    assert heading.split()[1:] == [
        "mean",
        "std",
        "zeros",
        "saturated",
        "dead",
        "gradient",
        "weights",
    ]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rel"], "there is no 'rel'; nearest: relu"),
        (["relu/henormal"], "nearest: he_normal"),
        (["relu/normal/0"], "depth must be a whole number >= 1, got '0'"),
        (["relu/normal/2/3"], "write activation/initialiser/depth"),
        (["relu", "--data", "cifar"], "--data must be digits or mnist, got 'cifar'"),
        (["relu", "--output", "x.txt"], "--output must end with"),
    ],
)
def test_mistakes_are_told(arguments, words):
    with pytest.raises(ValueError, match=words):
        run(*arguments)
