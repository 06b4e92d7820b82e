"""`fit_many`: each run is what the same run gives alone."""

import chex
import jax
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from tests.training.blobs import TRAIN, VALID

RATES = [{"learning_rate": rate} for rate in (1e-4, 3e-3, 1e-1)]
SETTINGS = {"train": TRAIN, "valid": VALID, "batch_size": 40, "epochs": 12, "progress": False}


def models(n=3, **kwargs):
    return [layers.MLP(6, 3, units=(16, 8), rngs=nnx.Rngs(seed), **kwargs) for seed in range(n)]


def many(*args, **kwargs):
    return training.fit_many(*args, **SETTINGS | kwargs)


def assert_same(one, other):
    assert (one.best_epoch, one.stopped) == (other.best_epoch, other.stopped)
    for mine, theirs in zip(one.history[:3], other.history[:3], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=2e-3, atol=1e-4)
    params = lambda result: nnx.to_pure_dict(nnx.state(result.model, nnx.Param))  # noqa: E731
    chex.assert_trees_all_close(params(one), params(other), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("side_by_side", [1, 2, 3])
def test_each_run_is_the_same_as_alone(side_by_side):
    together = many(
        models(), jc.adam, RATES, seeds=[4, 5, 6], patience=2, side_by_side=side_by_side
    )
    for model, rate, seed, result in zip(models(), RATES, (4, 5, 6), together, strict=True):
        tx = jc.adam(**rate)
        assert_same(result, training.fit(model, tx, seed=seed, **SETTINGS, patience=2))
    assert len({len(result.history.seconds) for result in together}) > 1  # they stop by themselves


def test_folds_are_rows_of_the_training_data():
    folds = [(np.arange(100), np.arange(100, 150)), (np.arange(50, 150), np.arange(50))]
    together = many(models(2), jc.sgd(0.1), folds=folds, valid=None)
    for model, (train, valid), result in zip(models(2), folds, together, strict=True):
        parts = {
            "train": (TRAIN.x[train], TRAIN.y[train]),
            "valid": (TRAIN.x[valid], TRAIN.y[valid]),
        }
        assert_same(result, training.fit(model, jc.sgd(0.1), **SETTINGS | parts))


def test_runs_of_other_shapes_are_grouped_and_come_back_in_order(capsys):
    mixed = [layers.MLP(6, 3, units=(width,), rngs=nnx.Rngs(0)) for width in (4, 8, 4)]
    results = many(mixed, jc.sgd(0.1), batch_size=[40, 40, 40], progress=True)
    assert [result.model.hidden1.kernel.shape[1] for result in results] == [4, 8, 4]
    assert capsys.readouterr().out == "fit_many: 2 of 3 runs done\nfit_many: 3 of 3 runs done\n"
    assert_same(results[0], results[2])


def test_every_kind_of_hyperparameter_varies():
    def make_tx(learning_rate, momentum, weight_decay, l1, clip):
        return jc.chain(
            jc.clip_by_global_norm(clip),
            jc.add_elastic_net(l1, weight_decay),
            jc.sgd(learning_rate, momentum),
        )

    numbers = [
        {"learning_rate": 0.1, "momentum": 0.5, "weight_decay": 0.0, "l1": 1e-3, "clip": 1.0},
        {"learning_rate": 0.03, "momentum": 0.9, "weight_decay": 1e-2, "l1": 0.0, "clip": 0.1},
    ]
    together = many(models(2), make_tx, numbers, side_by_side=2)
    for model, chosen, result in zip(models(2), numbers, together, strict=True):
        assert_same(result, training.fit(model, make_tx(**chosen), **SETTINGS))


@pytest.mark.parametrize("trainable", [nnx.Param, transfer.freeze("hidden1")])
def test_everything_that_fit_takes_at_once(trainable):
    settings = SETTINGS | {
        "train": (*TRAIN, np.linspace(0.5, 2.0, 150)),
        "regularizer": layers.l2(1e-3),
        "augment": lambda key, x: x + 0.1 * jax.random.normal(key, x.shape),
        "plateau": jc.reduce_on_plateau(factor=0.5, patience=2),
        "trainable": trainable,
    }
    noisy = {"batch_norm": True, "dropout_rate": 0.2}
    together = training.fit_many(models(2, **noisy), jc.sgd(0.05), side_by_side=2, **settings)
    for model, result in zip(models(2, **noisy), together, strict=True):
        assert_same(result, training.fit(model, jc.sgd(0.05), **settings))


def test_a_run_that_diverges_leaves_the_others_alone():
    rates = [{"learning_rate": 0.1}, {"learning_rate": 1e38}]
    good, bad = many(models(2), jc.sgd, rates, side_by_side=2)
    assert_same(good, training.fit(models(1)[0], jc.sgd(0.1), **SETTINGS))
    assert (bad.stopped, bad.best_epoch) == ("not finite", 0)
    assert "since step" in bad.trouble
    start = nnx.to_pure_dict(nnx.state(models(2)[1], nnx.Param))
    chex.assert_trees_all_equal(nnx.to_pure_dict(nnx.state(bad.model, nnx.Param)), start)


def test_one_compilation_a_group():
    compilations = []

    def listen(name, seconds, **details):
        if name == "/jax/core/compile/backend_compile_duration":
            compilations.append(name)

    def run(rates):
        many(models(2), jc.adam, [{"learning_rate": rate} for rate in rates])

    run([1e-3, 1e-2])
    jax.monitoring.register_event_duration_secs_listener(listen)
    run([2e-3, 3e-3])
    jax.monitoring.clear_event_listeners()
    assert not compilations


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": []}, "fit_many: models is empty"),
        ({"seeds": [1]}, "seeds must have one entry for each of the 2 models, got 1"),
        ({"hyperparameters": [{"learning_rate": "fast"}] * 2}, "learning_rate must be a number"),
        ({"hyperparameters": [{"rate": 0.1}] * 2}, r"does not take the hyperparameters \['rate'\]"),
        ({"hyperparameters": [{"learning_rate": -1.0}] * 2}, r"sgd: learning_rate must lie in \[0"),
        ({"valid": None}, "give exactly one of valid and folds"),
        ({"folds": [([0], [1])] * 2}, "give exactly one of valid and folds"),
        ({"folds": [([0.5], [1])] * 2, "valid": None}, "must be a list of row numbers"),
        (
            {"folds": [([0], [150])] * 2, "valid": None},
            r"must lie in \[0, 149\], got values from 150",
        ),
        ({"seeds": [0, -1]}, "each of seeds must be a whole number >= 0, got -1"),
        ({"trainable": transfer.freeze("hiden")}, "fit_many: .* matches none of the parameters"),
        ({"regularizer": 1e-4}, "fit_many: regularizer must be a function, got 0.0001"),
        ({"plateau": jc.adam}, "fit_many: plateau must be a transformation"),
        ({"plateau": jc.sgd(0.1)}, "plateau must be a transformation that scales by a value"),
        ({"plateau": jc.max_norm(1.0)}, "plateau must be a transformation that scales by a value"),
        ({"side_by_side": 0}, "side_by_side must be a whole number >= 1, got 0"),
        ({"batch_size": 151}, "batch_size must be at most the 150 training examples, got 151"),
        ({"tx": optax.sgd(0.1).init}, "tx does not take|tx must be a gradient transformation"),
    ],
)
def test_bad_input(arguments, message):
    settings = {"models": models(2), "tx": jc.sgd, "hyperparameters": RATES[:2]} | arguments
    with pytest.raises(ValueError, match=message):
        many(**settings)
