"""No number changes on its way to the device: what would be cut or overflow is refused."""

import jax
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.model_selection import KFold

import jaxopt_cards as jc
from jaxopt_cards import cards, data, layers, training, transfer

X = np.linspace(-1, 1, 24, dtype=np.float32).reshape(12, 2)
Y = np.arange(12) % 3
GOOD = data.Examples(X, Y)
TX = jc.sgd(0.1)
FIT = {"epochs": 1, "batch_size": 4, "progress": False}


def net():
    return layers.MLP(2, 3, units=(), rngs=nnx.Rngs(0))


def deep(rngs=None):
    return layers.MLP(2, 3, units=(4,), rngs=nnx.Rngs(0))


DOORS = {
    "fit": lambda x, y: training.fit(net(), TX, train=(x, y), valid=GOOD, **FIT),
    "fit: valid": lambda x, y: training.fit(net(), TX, train=GOOD, valid=(x, y), **FIT),
    "fit_many": lambda x, y: training.fit_many([net()], TX, train=(x, y), valid=GOOD, **FIT),
    "fit_online": lambda x, y: training.fit_online(net(), TX, [GOOD, (x, y)]),
    "evaluate": lambda x, y: training.evaluate(net(), x, y),
    "cross_validate": lambda x, y: training.cross_validate(
        deep, TX, train=(x, y), cv=KFold(2), **FIT
    ),
    "learning_rate_range": lambda x, y: training.learning_rate_range(
        net(), jc.sgd, train=(x, y), valid=GOOD, **FIT
    ),
    "fine_tune": lambda x, y: transfer.fine_tune(deep(), train=(x, y), valid=GOOD, **FIT),
    "cache_features": lambda x, y: transfer.cache_features(deep(), 1, (x, y)),
    "layer_statistics": lambda x, y: cards.layer_statistics(net(), x, y),
}


def changed(array, value, dtype):
    array = array.astype(dtype)
    array[np.unravel_index(7, array.shape)] = value
    return array


LABELS = {
    "int64": (changed(Y, 2**32 + 1, np.int64), r"\[-2147483648, 2147483647\].* got 4294967297"),
    "negative": (changed(Y, 1 - 2**32, np.int64), r"range of int32, got -4294967295"),
    "uint64": (changed(Y, 2**32 + 1, np.uint64), r"\[0, 4294967295\].* got 4294967297"),
    "float64": (changed(Y, 1e300, float), r"finite in float32, got 1e\+300"),
}
INPUTS = LABELS | {
    "int64": (changed(X, 2**31, np.int64), r"\[-2147483648, 2147483647\].* got 2147483648"),
    "negative": (changed(X, -(2**40), np.int64), r"range of int32, got -1099511627776"),
    "uint64": (
        changed(abs(X), 2**64 - 1, np.uint64),
        r"\[0, 4294967295\].* got 18446744073709551615",
    ),
    "float64": (changed(X, -1e39, float), r"finite in float32, got -1e\+39"),
    "complex": (changed(X, 1e300j, complex), r"finite in complex64, got 1e\+300j"),
}


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("door", DOORS)
def test_labels_that_would_be_cut_are_refused(door, kind):
    labels, message = LABELS[kind]
    with pytest.raises(ValueError, match=rf"^\w+: the labels of .* {message} at \[7\]"):
        DOORS[door](X, labels)


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("door", DOORS)
def test_inputs_that_would_be_cut_are_refused(door, kind):
    inputs, message = INPUTS[kind]
    with pytest.raises(ValueError, match=rf"^\w+: the inputs of .* {message} at \[3, 1\]"):
        DOORS[door](inputs, Y)


def test_the_estimator_and_the_report_refuse_them_too(tmp_path):
    inputs = changed(X, 1e300, float)
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match=r"too large for dtype\('float32'\)"),
    ):
        training.DNNClassifier(epochs=1).fit(inputs, Y)
    result = DOORS["fit"](X, Y)
    labels, _ = LABELS["int64"]
    with pytest.raises(ValueError, match=r"report: the labels of test .* got 4294967297 at"):
        training.report({"one": [result]}, test=(X, labels), path=tmp_path / "page.html")
    # Labels of any kind are classes to it: they never reach the device.
    classes = np.where(Y == 1, 2**32 + 1, Y)
    model = training.DNNClassifier((), epochs=2, validation_fraction=0).fit(X, classes)
    assert set(model.classes_.tolist()) == {0, 2, 2**32 + 1}


def test_what_fits_passes_whatever_its_type():
    for dtype in (np.int8, np.uint16, np.int64, np.uint64):
        plain = training.evaluate(net(), X, Y.astype(dtype))
        assert plain == training.evaluate(net(), X, Y)
    assert training.evaluate(net(), X.tolist(), Y.tolist()) == plain
    inputs = np.round(100 * X).astype(np.int64)
    with jax.numpy_dtype_promotion("standard"):
        narrow = training.evaluate(net(), inputs.astype(np.int32), Y)
        assert training.evaluate(net(), inputs, Y) == narrow


def test_with_64_bit_types_they_pass(x64):
    far = Y + 2**32
    loss = lambda outputs, y: optax.softmax_cross_entropy_with_integer_labels(  # noqa: E731
        outputs, y - 2**32
    )
    with jax.numpy_dtype_promotion("standard"):
        measured = training.evaluate(net(), X.astype(float), far, loss=loss)
        near = training.evaluate(net(), X.astype(float), Y)
    assert measured["loss"] == pytest.approx(near["loss"])
    assert measured["accuracy"] == 0.0  # no class has such a number
    assert near["accuracy"] > 0.0
    big = changed(X, 1e300, float)
    tame = lambda outputs, y: 0.0 * outputs[:, 0]  # noqa: E731
    with jax.numpy_dtype_promotion("standard"):
        assert np.isfinite(training.evaluate(net(), big, far, loss=tame)["loss"])


@pytest.mark.parametrize(
    "call",
    [
        lambda seed: training.fit(net(), TX, train=GOOD, valid=GOOD, seed=seed, **FIT),
        lambda seed: training.fit_many(
            [net()], TX, train=GOOD, valid=GOOD, seeds=[seed], **FIT
        ),
        lambda seed: training.fit_online(net(), TX, [GOOD], seed=seed),
        lambda seed: training.cross_validate(deep, TX, train=GOOD, cv=2, seed=seed, **FIT),
        lambda seed: transfer.fine_tune(deep(), train=GOOD, valid=GOOD, seed=seed, **FIT),
        lambda seed: data.pairs(GOOD, 4, seed=seed),
        lambda seed: data.corrupted(GOOD, image_shape=(1, 2), seed=seed),
    ],
)  # fmt: skip
def test_seeds_that_would_be_cut_are_refused(call):
    assert jax.random.key(2**32) == jax.random.key(0)  # what JAX does
    with pytest.raises(ValueError, match=r"seeds? must be below 2\*\*32, got 4294967296"):
        call(2**32)
    call(2**31 - 1)


def test_hyperparameters_that_overflow_are_refused():
    with pytest.raises(ValueError, match=r"learning_rate must be finite in float32, got 1e\+300"):
        training.fit_many(
            [net()], jc.sgd, [{"learning_rate": 1e300}], train=GOOD, valid=GOOD, **FIT
        )
