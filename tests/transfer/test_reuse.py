"""How many layers to reuse: each member of the population is what the same run gives alone."""

import functools

import chex
import jax
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from tests.training.blobs import TRAIN, VALID

UNITS = (8, 7)
LOOKS = {
    "plain": {},
    "normalised": {"batch_norm": True, "batch_norm_momentum": 0.9, "activation": "prelu"},
    "noisy": {"dropout_rate": 0.2, "drop_connect_rate": 0.1, "activation": "rrelu"},
}
SETTINGS = {"train": TRAIN, "valid": VALID, "batch_size": 40, "epochs": 6, "progress": False}
# A clip that would count frozen gradients, and a decay that would move frozen weights.
TX = jc.chain(jc.clip_by_global_norm(0.3), jc.adamw(0.02, weight_decay=0.1))


@functools.cache
def pretrained(look):
    """Trained on other labels, so that its statistics and slopes are its own."""
    net = layers.MLP(6, 4, UNITS, rngs=nnx.Rngs(50), **LOOKS[look])
    other = (TRAIN.x * 2 + 1, (TRAIN.y + 1) % 3)
    settings = SETTINGS | {"train": other, "epochs": 2}
    return training.fit(net, jc.adam(0.01), **settings).model


def alone(source, look, depth, seed, freeze=True, tx=TX, **settings):
    """The same training as users would write it."""
    net = layers.MLP(6, 3, UNITS, rngs=nnx.Rngs(seed), **LOOKS[look])
    if depth == 0:
        return training.fit(net, tx, seed=seed, **SETTINGS | settings)
    pattern = f"hidden[1-{depth}].*(kernel|bias|scale|mean|var|slope)"
    net, _ = transfer.restore(net, source, pattern)
    trainable = transfer.freeze(f"hidden[1-{depth}]") if freeze else nnx.Param
    return training.fit(net, tx, seed=seed, trainable=trainable, **SETTINGS | settings)


def arrays_of(net):
    return nnx.to_pure_dict(nnx.state(net, nnx.Not(nnx.RngState)))


def assert_same(one, other):
    assert (one.best_epoch, one.stopped) == (other.best_epoch, other.stopped)
    for mine, theirs in zip(one.history[:3], other.history[:3], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(arrays_of(one.model), arrays_of(other.model), rtol=1e-3, atol=1e-5)
    assert nnx.graphdef(one.model) == nnx.graphdef(other.model)


@pytest.mark.parametrize(
    ("look", "freeze"), [*((look, True) for look in LOOKS), ("normalised", False)]
)
def test_each_depth_is_the_same_as_alone(look, freeze):
    source = pretrained(look)
    before = jax.tree.map(np.array, arrays_of(source))
    result = transfer.reuse_layers(source, TX, 3, freeze=freeze, seeds=(1, 2), **SETTINGS)
    chex.assert_trees_all_equal(arrays_of(source), before)
    assert {depth: len(runs) for depth, runs in result.results.items()} == {0: 2, 1: 2, 2: 2}
    for depth, runs in result.results.items():
        for seed, run in zip((1, 2), runs, strict=True):
            assert_same(run, alone(source, look, depth, seed, freeze))
            frozen = {k: v for k, v in before.items() if k[6:7].isdigit() and int(k[6]) <= depth}
            now = {name: arrays_of(run.model)[name] for name in frozen}
            if freeze:
                chex.assert_trees_all_equal(now, frozen)
            elif depth:
                assert not np.array_equal(now["hidden1"]["kernel"], frozen["hidden1"]["kernel"])


def test_all_runs_are_one_program(capsys):
    source = pretrained("normalised")
    settings = SETTINGS | {"epochs": 1, "progress": True}
    transfer.reuse_layers(source, TX, 3, seeds=(0, 1), **settings)
    assert capsys.readouterr().out == "fit_many: 6 of 6 runs done\n"  # a line for each program


def test_side_by_side_and_what_else_fit_takes():
    source = pretrained("normalised")
    settings = {
        "patience": 1,
        "epochs": 12,
        "augment": lambda key, x: x + 0.1 * jax.random.normal(key, x.shape),
        "plateau": jc.reduce_on_plateau(factor=0.5, patience=1),
        "regularizer": layers.l2(1e-2),
    }
    tx = jc.momentum(0.1, 0.9)
    together = transfer.reuse_layers(
        source, tx, 3, depths=[2, 0], side_by_side=2, **SETTINGS | settings
    )
    for depth in (0, 2):
        expected = alone(source, "normalised", depth, 0, tx=tx, **settings)
        assert_same(together.results[depth][0], expected)


def test_the_table_says_what_was_measured(tmp_path):
    source = pretrained("plain")
    result = transfer.reuse_layers(source, TX, 3, depths=(2, 0), seeds=(5, 6), **SETTINGS)
    assert [row["depth"] for row in result.table] == [0, 2]
    for row in result.table:
        runs = [alone(source, "plain", row["depth"], seed) for seed in (5, 6)]
        losses = [run.history.valid_loss.min() for run in runs]
        accuracies = [run.history.valid_accuracy[run.best_epoch - 1] for run in runs]
        expected = [np.mean(losses), np.std(losses), np.mean(accuracies), np.std(accuracies)]
        np.testing.assert_allclose(list(row.values())[2:6], expected, rtol=1e-3, atol=1e-5)
        assert row["best_epoch"] == np.mean([run.best_epoch for run in runs])
    by_loss = sorted(result.table, key=lambda row: row["valid_loss"])
    assert [row["rank"] for row in by_loss] == [1, 2]
    assert result.best == {"depth": by_loss[0]["depth"]}
    lines = str(result).splitlines()
    assert lines[0].split() == list(result.table[0])
    assert [line.split()[1] for line in lines[1:]] == ["0", "2"]
    result.save(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().startswith("rank,depth,valid_loss,")


def test_the_model_is_the_best_run_of_the_best_depth():
    result = transfer.reuse_layers(pretrained("plain"), TX, 3, seeds=(0, 1, 2), **SETTINGS)
    runs = result.results[result.best["depth"]]
    losses = [training.evaluate(run.model, *VALID)["loss"] for run in runs]
    chex.assert_trees_all_equal(arrays_of(result.model), arrays_of(runs[np.argmin(losses)].model))
    np.testing.assert_allclose(min(losses), training.evaluate(result.model, *VALID)["loss"])


def test_a_seed_gives_the_same_and_new_layers_are_those_of_every_depth():
    source = pretrained("plain")
    still = jc.sgd(0.0)
    once, again = (
        transfer.reuse_layers(source, still, 3, seeds=(7,), **SETTINGS | {"epochs": 1})
        for _ in range(2)
    )
    fresh = arrays_of(layers.MLP(6, 3, UNITS, rngs=nnx.Rngs(7)))
    for depth, (run,) in once.results.items():
        arrays = arrays_of(run.model)
        chex.assert_trees_all_equal(arrays, arrays_of(again.results[depth][0].model))
        for index in range(1, 3):
            expected = arrays_of(source) if index <= depth else fresh
            chex.assert_trees_all_equal(arrays[f"hidden{index}"], expected[f"hidden{index}"])
        chex.assert_trees_all_equal(arrays["logits"], fresh["logits"])


def test_where_labels_are_few_reuse_helps():
    settings = SETTINGS | {"epochs": 30}
    net = layers.MLP(6, 3, UNITS, rngs=nnx.Rngs(0))
    source = training.fit(net, jc.adam(0.01), **settings).model
    few = settings | {"train": (TRAIN.x[:6], TRAIN.y[:6]), "batch_size": 6}
    result = transfer.reuse_layers(source, jc.adam(0.03), 3, seeds=(0, 1), **few)
    assert result.table[0]["rank"] == 3


def test_runs_that_diverge():
    source = nnx.clone(pretrained("plain"))
    source.hidden2.kernel[...] = source.hidden2.kernel[...] * np.nan
    result = transfer.reuse_layers(source, TX, 3, **SETTINGS)
    assert [np.isfinite(row["valid_loss"]) for row in result.table] == [True, True, False]
    assert result.table[2]["rank"] == 3
    with pytest.raises(FloatingPointError, match="reuse_layers: no depth has a finite valid_loss"):
        transfer.reuse_layers(source, TX, 3, depths=[2], **SETTINGS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": nnx.Linear(6, 3, rngs=nnx.Rngs(0))}, "model must be a layers.MLP, got 'Linear'"),
        ({"tx": 0.1}, "tx must be a gradient transformation"),
        ({"out_features": 0}, "out_features must be a whole number >= 1, got 0"),
        (
            {"depths": [3]},
            "each of depths must be at most 2, the hidden layers of the model, got 3",
        ),
        ({"depths": [-1]}, "each of depths must be a whole number >= 0, got -1"),
        ({"depths": []}, r"depths must be a list of different whole numbers, got \[\]"),
        ({"depths": [1, 1]}, "depths must be a list of different whole numbers"),
        ({"depths": 2}, "depths must be a list of different whole numbers"),
        ({"depths": np.array(2)}, "depths must be a list of different whole numbers"),
        ({"depths": np.array([1, 1])}, "depths must be a list of different whole numbers"),
        ({"depths": [[1]]}, r"each of depths must be a whole number >= 0, got \[1\]"),
        ({"depths": [[1], [1, 2]]}, r"each of depths must be a whole number >= 0, got \[1\]"),
        ({"depths": np.eye(2)}, "each of depths must be a whole number >= 0, got \\["),
        ({"depths": [1, True]}, "each of depths must be a whole number >= 0, got True"),
        ({"seeds": [{}]}, "each of seeds must be a whole number >= 0, got {}"),
        ({"seeds": 5}, "seeds must be a list of different whole numbers"),
        ({"seeds": [0.5]}, "each of seeds must be a whole number >= 0, got 0.5"),
        ({"freeze": "hidden"}, "freeze must be True or False, got 'hidden'"),
        ({"trainable": nnx.Param}, "trainable must be left out"),
        ({"folds": []}, "folds must be left out"),
    ],
)
def test_bad_input(arguments, message):
    given = {"model": layers.MLP(6, 4, UNITS, rngs=nnx.Rngs(0)), "tx": TX, "out_features": 3}
    with pytest.raises(ValueError, match=f"^reuse_layers: {message}"):
        transfer.reuse_layers(**given | SETTINGS | arguments)
