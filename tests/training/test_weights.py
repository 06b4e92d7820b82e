"""Weights of examples count alike at every batch size, in training and in validation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import training, transfer

N = 8
X = np.zeros((N, 1), np.float32)
Y = np.array([1, 0, 0, 1, 0, 0, 0, 0], np.float32)
WEIGHT = np.array([18, 1, 1, 0, 0.5, 0.5, 1, 2])
MEAN = float(WEIGHT @ Y / WEIGHT.sum())  # 0.75; without weights it is 0.25
TX = jc.sgd(lambda step: 0.1 / (1 + step / 50))
SETTINGS = {"epochs": 150, "progress": False}
SIZES = (1, 3, N)  # 3 does not divide the number of examples


class Bias(nnx.Module):
    """A model whose least squares are the mean of the labels."""

    def __init__(self, rngs=None):
        self.bias = nnx.Param(jnp.zeros(()))

    def __call__(self, x):
        return jnp.broadcast_to(self.bias[...], len(x))


def squared(outputs, y):
    return (outputs - y) ** 2


def bias_of(net):
    return float(net.bias[...])


def fit(size, weight=WEIGHT, **kwargs):
    settings = SETTINGS | {"loss": squared, "batch_size": size, "valid": (X, Y)} | kwargs
    return training.fit(Bias(), TX, train=(X, Y, weight), **settings)


def weighted_losses(bias, weight=WEIGHT):
    return weight @ (bias - Y) ** 2 / weight.sum()


@pytest.mark.parametrize("size", SIZES)
def test_fit_reaches_the_weighted_mean(size):
    result = fit(size)
    assert bias_of(result.last) == pytest.approx(MEAN, abs=0.02)
    # The model hardly moves in the last epoch.
    assert result.history.train_loss[-1] == pytest.approx(weighted_losses(MEAN), rel=0.1)


@pytest.mark.parametrize("size", SIZES)
def test_equal_weights_are_none_and_only_ratios_count(size):
    settings = {"epochs": 3}
    plain = training.fit(
        Bias(), TX, train=(X, Y), valid=(X, Y), loss=squared, batch_size=size,
        **SETTINGS | settings,
    )  # fmt: skip
    for weight in (np.full(N, 7), np.ones(N, bool), np.full(N, 1e30), np.full(N, 2**40)):
        same = fit(size, weight, **settings)
        assert bias_of(same.last) == bias_of(plain.last)
        np.testing.assert_array_equal(same.history.train_loss, plain.history.train_loss)
    for factor in (1e-30, 1e30):
        scaled = fit(size, WEIGHT * factor, **settings)
        assert bias_of(scaled.last) == pytest.approx(bias_of(fit(size, **settings).last), rel=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_fit_many_does_the_same_alone_and_side_by_side(size):
    alone = fit(size, valid=(X, Y, WEIGHT))
    for side_by_side in (1, 2):
        several = training.fit_many(
            [Bias(), Bias()], TX, train=(X, Y, WEIGHT), valid=(X, Y, WEIGHT), loss=squared,
            batch_size=size, side_by_side=side_by_side, **SETTINGS,
        )  # fmt: skip
        for one in several:
            np.testing.assert_allclose(one.history.train_loss, alone.history.train_loss, rtol=1e-4)
            np.testing.assert_allclose(one.history.valid_loss, alone.history.valid_loss, rtol=1e-4)


def test_folds_have_the_weights_of_their_own_rows():
    rows, others = np.array([0, 1, 2, 3]), np.array([4, 5, 6, 7])
    (result,) = training.fit_many(
        [Bias()], TX, train=(X, Y, WEIGHT), folds=[(rows, others)], loss=squared, batch_size=1,
        **SETTINGS,
    )  # fmt: skip
    parts = {"train": (X[rows], Y[rows], WEIGHT[rows]), "valid": (X[others], Y[others], WEIGHT[4:])}
    alone = training.fit(Bias(), TX, loss=squared, batch_size=1, **parts, **SETTINGS)
    np.testing.assert_allclose(result.history.train_loss, alone.history.train_loss, rtol=1e-4)
    np.testing.assert_allclose(result.history.valid_loss, alone.history.valid_loss, rtol=1e-4)
    for folds, part in (([([3], rows)], "training"), ([(rows, [3])], "validation")):
        with pytest.raises(ValueError, match=f"fit_many: a fold has no {part} example of a weight"):
            training.fit_many([Bias()], TX, train=(X, Y, WEIGHT), folds=folds, loss=squared)


class Halves:
    """A splitter of examples into even and odd ones."""

    def split(self, x, y):
        rows = np.arange(len(x))
        return [(rows[half::2], rows[1 - half :: 2]) for half in (0, 1)]


def test_searches_weigh_training_and_validation():
    settings = {"train": (X, Y, WEIGHT), "loss": squared, "batch_size": 1, **SETTINGS}
    results = training.cross_validate(Bias, TX, cv=Halves(), **settings)
    for result, half in zip(results, (0, 1), strict=True):
        y, w = (a[half::2] for a in (Y, WEIGHT))
        valid = [a[1 - half :: 2] for a in (Y, WEIGHT)]
        mean = w @ y / w.sum()
        assert result.history.train_loss[-1] == pytest.approx(
            w @ (mean - y) ** 2 / w.sum(), abs=0.02
        )
        best = result.history.valid_loss[result.best_epoch - 1]
        own = valid[1] @ (bias_of(result.model) - valid[0]) ** 2 / valid[1].sum()
        assert best == pytest.approx(own, rel=1e-5)
    found = training.random_search(
        Bias, jc.sgd, {"learning_rate": [0.05]}, cv=(X, Y, WEIGHT), **settings
    )
    assert found.table[0]["valid_loss"] == pytest.approx(weighted_losses(MEAN), rel=0.02)
    rates = training.learning_rate_range(
        Bias(), jc.sgd, valid=(X, Y, WEIGHT), low=0.01, high=0.02, points=2, **settings
    )
    assert rates.valid_loss.min() == pytest.approx(weighted_losses(MEAN), rel=0.05)


def test_fine_tuning_weighs_examples_in_both_stages():
    class Tower(Bias):
        def __init__(self):
            super().__init__()
            self.other = nnx.Param(jnp.zeros(()))

        def __call__(self, x):
            return super().__call__(x) + self.other[...]

    result = transfer.fine_tune(
        Tower(), jc.sgd, train=(X, Y, WEIGHT), valid=(X, Y, WEIGHT), head="bias", loss=squared,
        order=["other", "bias"], lr_mult=1.0, base_lr=0.05, epochs=60, freeze_epochs=60,
        batch_size=1, progress=False,
    )  # fmt: skip
    np.testing.assert_allclose(
        result.history.valid_loss[[59, 119]], weighted_losses(MEAN), rtol=0.1
    )


@pytest.mark.parametrize("size", SIZES)
def test_a_stream_has_steps_as_long_as_weights_are_heavy(size):
    def stream(weight, repeats=150):
        rows = np.random.default_rng(0).permuted(np.tile(np.arange(N), (repeats, 1)), axis=1)
        for epoch in rows:
            for start in range(0, N, size):
                part = epoch[start : start + size]
                if weight[part].any():
                    yield X[part], Y[part], weight[part]

    learned = training.fit_online(
        Bias(), jc.sgd(lambda step: 0.01 / (1 + step / 300)), stream(WEIGHT, 600), loss=squared
    )
    assert bias_of(learned.model) == pytest.approx(MEAN, abs=0.03)

    def first_step(factor):
        batch = next(stream(factor * (1 + WEIGHT)))
        result = training.fit_online(Bias(), jc.sgd(1e-4), [batch], loss=squared)
        return bias_of(result.model), result.losses[0], batch

    (one, loss, (_, y, weight)), (heavy, same, _) = first_step(1), first_step(1000)
    assert one == pytest.approx(2e-4 * (weight @ y) / len(y), rel=1e-5)
    assert heavy == pytest.approx(1000 * one, rel=1e-5)
    assert loss == pytest.approx(weight @ y**2 / weight.sum(), rel=1e-5)  # a mean, as in `fit`
    assert same == pytest.approx(loss, rel=1e-5)


def test_a_short_batch_of_a_stream_is_divided_by_its_own_size():
    batches = [(X, np.zeros_like(Y)), (X[:2], Y[:2], WEIGHT[:2])]
    moved = bias_of(training.fit_online(Bias(), jc.sgd(0.01), batches, loss=squared).model)
    assert moved == pytest.approx(0.01 * 2 * WEIGHT[0] / 2, rel=1e-5)


def test_validation_is_weighed_and_decides_the_best_epoch():
    ends = (X[:2], np.array([0.0, 1.0], np.float32))
    for weight, best in (((1, 0), 1), ((0, 1), 30)):
        result = training.fit(
            Bias(), jc.sgd(0.01), train=(X[:1], Y[:1]), valid=(*ends, np.array(weight)),
            loss=squared, batch_size=1, epochs=30, progress=False,
        )  # fmt: skip
        assert result.best_epoch == best
    measured = training.evaluate(Bias(), X, Y, weight=WEIGHT, loss=squared)
    assert measured["loss"] == pytest.approx(weighted_losses(0.0), rel=1e-6)


class Constant(nnx.Module):
    def __call__(self, x):
        return jnp.broadcast_to(jnp.array([1.0, 0.0]), (len(x), 2))


def test_accuracy_is_weighed():
    labels = np.array([0, 1, 1, 1])
    measured = training.evaluate(Constant(), np.zeros((4, 1)), labels, weight=[6, 1, 1, 0])
    assert measured["accuracy"] == pytest.approx(0.75)


def test_a_penalty_has_the_same_weight_whatever_the_examples_have():
    settings = {"regularizer": lambda params: params["bias"] ** 2, "epochs": 2}
    one, other = (fit(N, factor * WEIGHT, **settings) for factor in (1, 1000))
    assert bias_of(one.last) == pytest.approx(bias_of(other.last), rel=1e-5)


def test_the_estimator_weighs_validation_and_keeps_partial_fits_steps():
    from jaxopt_cards.training import DNNClassifier

    x = np.zeros((200, 1))
    y = np.arange(200) % 2
    weight = np.where(y == 1, 9.0, 1.0)
    settings = {"units": (), "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 1}
    settings |= {"epochs": 3, "random_state": 0}
    chance = lambda model: model.predict_proba(x[:1])[0, 1]  # noqa: E731
    for more in ({}, {"validation_fraction": 0.0}, {"patience": None}):
        model = DNNClassifier(**settings | more).fit(x, y, weight)
        assert chance(model) == pytest.approx(0.9, abs=0.05)
        # Of the weighted mean, which is far below the plain one of such predictions.
        assert model.history_.valid_loss.min() == pytest.approx(0.325, abs=0.05)
    valid = (x, y, weight)
    model = DNNClassifier(**settings).fit(x, y, weight, valid=valid)
    assert model.history_.valid_loss.min() == pytest.approx(0.325, abs=0.02)

    def after(weight):
        settings_once = settings | {"learning_rate": 1e-5, "batch_size": 200}
        model = DNNClassifier(**settings_once).partial_fit(x, y, [0, 1], weight)
        return np.log(chance(model) / (1 - chance(model)))

    start = after(np.ones(200))
    assert after(1000 * weight) - start == pytest.approx(1000 * (after(weight) - start), rel=0.1)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.zeros(N), r"must be 8 numbers >= 0, not all 0, got .* from 0.0 to 0.0"),
        (np.full(N, 1e-42), "not all 0"),
        (WEIGHT - 1, r"must be 8 numbers >= 0, .* values from -1.0 to 17.0"),
        (np.where(Y > 0, np.nan, 1), r"weights of train must be finite, got nan at \[0\]"),
        (np.where(Y > 0, 1, np.inf), r"weights of train must be finite, got inf at \[1\]"),
        (np.where(Y > 0, 1, 1e300), r"must be finite in float32, got 1e\+300 at \[1\]"),
        (WEIGHT[:3], r"must be 8 numbers >= 0, .* of the shape \(3,\)"),
        (WEIGHT * 1j, r"must be 8 numbers >= 0, .* got complex128"),
    ],
)
def test_bad_weights(weight, message):
    with pytest.raises(ValueError, match=message):
        fit(1, weight)


def test_weights_of_64_bits(x64):
    assert jax.config.jax_enable_x64
    train = (X.astype(float), Y.astype(float), WEIGHT)
    settings = SETTINGS | {"loss": squared, "batch_size": 3}
    with jax.numpy_dtype_promotion("standard"):
        result = training.fit(Bias(), TX, train=train, valid=train, **settings)
    assert bias_of(result.last) == pytest.approx(MEAN, abs=0.02)
