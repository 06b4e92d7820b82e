"""Cross-validation and random search: the same as by hand, sorted, reproducible."""

import csv
import functools

import numpy as np
import pytest
import scipy.stats
from flax import nnx
from sklearn.model_selection import KFold, StratifiedKFold

import jaxopt_cards as jc
from jaxopt_cards import layers, training
from tests.training.blobs import TRAIN, VALID
from tests.training.test_many import assert_same


def make_model(rngs, units=(8,), dropout_rate=0.0):
    return layers.MLP(6, 3, units=units, dropout_rate=dropout_rate, rngs=rngs)


def search(space, **kwargs):
    settings = {"train": TRAIN, "epochs": 4, "batch_size": 50, "progress": False}
    return training.random_search(make_model, jc.adam, space, **settings | kwargs)


@pytest.mark.parametrize("cv", [3, KFold(3)])
def test_cross_validation_is_a_fit_on_each_fold(cv):
    settings = {"batch_size": 40, "epochs": 3, "progress": False}
    results = training.cross_validate(
        make_model, jc.sgd(0.1), train=TRAIN, cv=cv, seed=7, **settings
    )
    splitter = StratifiedKFold(3, shuffle=True, random_state=7) if cv == 3 else cv
    for fold, (train, valid) in enumerate(splitter.split(TRAIN.x, TRAIN.y)):
        alone = training.fit(
            make_model(nnx.Rngs(7 + fold)),
            jc.sgd(0.1),
            train=(TRAIN.x[train], TRAIN.y[train]),
            valid=(TRAIN.x[valid], TRAIN.y[valid]),
            seed=7 + fold,
            **settings,
        )
        assert_same(results[fold], alone)


def test_the_table_is_sorted_and_saved(tmp_path):
    rates = [1e-5, 1e-2, 1e-3]
    result = search({"learning_rate": rates, "units": [(4,), (8,)]}, cv=2)
    assert len(result.table) == 6  # the whole grid
    losses = [row["valid_loss"] for row in result.table]
    assert losses == sorted(losses)
    assert [row["rank"] for row in result.table] == [1, 2, 3, 4, 5, 6]
    assert result.best == {key: result.table[0][key] for key in ("learning_rate", "units")}
    assert result.best["learning_rate"] == 1e-2
    result.save(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open() as file:
        saved = list(csv.DictReader(file))
    assert [float(row["valid_loss"]) for row in saved] == losses
    lines = str(result).splitlines()
    assert len(lines) == 7
    assert lines[0].split()[:3] == ["rank", "learning_rate", "units"]


def test_draws_are_reproducible_and_models_take_their_part():
    space = {
        "learning_rate": scipy.stats.loguniform(1e-4, 1e-1),
        "dropout_rate": [0.1, 0.3],
        "batch_size": [25, 50],
    }
    one, same = (search(space, candidates=4, cv=VALID, seed=3) for _ in range(2))
    assert one.table == same.table
    assert len({row["learning_rate"] for row in one.table}) == 4
    other = search(space, candidates=4, cv=VALID, seed=4)
    assert other.table != one.table
    best = one.table[0]
    alone = training.fit(
        make_model(nnx.Rngs(3), dropout_rate=best["dropout_rate"]),
        jc.adam(best["learning_rate"]),
        train=TRAIN, valid=VALID, seed=3, epochs=4, batch_size=best["batch_size"], progress=False,
    )  # fmt: skip
    assert best["valid_loss"] == pytest.approx(min(alone.history.valid_loss), rel=1e-3)


def test_halving_gives_most_epochs_to_the_best():
    rates = np.logspace(-6, -2, 9).tolist()
    result = search({"learning_rate": rates}, candidates=9, cv=VALID, epochs=9, halving=3)
    assert [row["epochs"] for row in result.table] == [9] + [3] * 2 + [1] * 6
    assert result.best["learning_rate"] in rates[-3:]


def test_the_model_may_be_a_class_with_some_arguments_given():
    result = training.random_search(
        functools.partial(layers.MLP, 6, 3),
        jc.sgd,
        {"units": [(4,)], "learning_rate": [0.1]},
        train=TRAIN,
        cv=VALID,
        epochs=1,
        progress=False,
    )
    assert result.best == {"units": (4,), "learning_rate": 0.1}


def test_a_search_in_which_all_diverge_has_no_best():
    with pytest.raises(FloatingPointError, match="valid_loss is not finite for any candidate: the"):
        training.random_search(
            make_model, jc.sgd, {"learning_rate": [1e37, 1e38]}, train=TRAIN, cv=VALID, epochs=2,
            progress=False,
        )  # fmt: skip


def test_sorted_by_accuracy():
    result = search({"learning_rate": [1e-5, 1e-2]}, cv=VALID, by="valid_accuracy")
    accuracies = [row["valid_accuracy"] for row in result.table]
    assert accuracies == sorted(accuracies, reverse=True)


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        ({}, {}, "random_search: space is empty"),
        ({"learning_rat": [0.1]}, {}, "neither make_model nor make_tx takes learning_rat"),
        ({"learning_rate": 0.1}, {}, "random_search: space must map names to values"),
        ({"learning_rate": [0.1]}, {"candidates": 0}, "candidates must be a whole number >= 1"),
        ({"learning_rate": [0.1]}, {"cv": 1}, "cv must be a whole number >= 2, got 1"),
        ({"learning_rate": [0.1]}, {"by": "loss"}, 'by must be "valid_loss" or "valid_accuracy"'),
        (
            {"learning_rate": [0.1]},
            {"valid": VALID},
            r"random_search: valid must be given as cv=\(x, y\)",
        ),
        (
            {"learning_rate": [0.1]},
            {"train": (TRAIN.x, TRAIN.x[:, 0])},
            "cv=3 cannot keep the share of each label: .* such as KFold",
        ),
        ({"learning_rate": [0.1]}, {"halving": 1}, "halving must be a whole number >= 2, got 1"),
    ],
)
def test_bad_arguments(space, settings, message):
    with pytest.raises(ValueError, match=message):
        search(space, **settings)


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            lambda: training.random_search(make_model, jc.sgd(0.1), {}, train=TRAIN),
            "random_search: make_tx must be a function",
        ),
        (
            lambda: training.random_search(make_model(nnx.Rngs(0)), jc.sgd, {}, train=TRAIN),
            "random_search: make_model must be a function that returns a module",
        ),
        (
            lambda: training.cross_validate(make_model(nnx.Rngs(0)), jc.sgd(0.1), train=TRAIN),
            "cross_validate: make_model must be a function that returns a module",
        ),
    ],
    ids=["tx", "model", "model of folds"],
)
def test_what_a_function_should_make_was_made_already(run, message):
    with pytest.raises(ValueError, match=message):
        run()
