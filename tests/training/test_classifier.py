"""The estimator: scikit-learn's own checks, then what they do not ask."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import scipy.sparse
import scipy.stats
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import jaxopt_cards as jc
from jaxopt_cards import training
from jaxopt_cards.training import DNNClassifier
from jaxopt_cards.training.classifier_parts import BLOCK, validation_rows

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(120, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)  # three classes


def small(**arguments):
    plain = {"units": (8,), "learning_rate": 0.02, "epochs": 3, "random_state": 0}
    return DNNClassifier(**plain | arguments)


def excused(estimator):
    return {
        "check_sample_weight_equivalence_on_dense_data": (
            "weights change what a mini-batch holds, and which rows are set aside for validation; "
            "with neither, the two agree to the rounding of float32 (test below), which is coarser "
            "than the 1e-7 asked for"
        )
    }


@parametrize_with_checks(
    [DNNClassifier(units=(10,), learning_rate=0.02, epochs=20)],
    expected_failed_checks=excused,
    xfail_strict=True,
)
def test_scikit_learn(estimator, check):
    check(estimator)


def test_a_weight_is_a_number_of_copies():
    copies = RANDOM.integers(0, 4, size=len(X))
    whole = small(batch_size=1000, validation_fraction=0, learning_rate=1e-3)
    weighted = clone(whole).fit(X, Y, copies)
    repeated = clone(whole).fit(np.repeat(X, copies, axis=0), np.repeat(Y, copies))
    np.testing.assert_allclose(
        weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-4, atol=1e-6
    )
    other = clone(whole).fit(X, Y, copies[::-1])
    assert np.abs(weighted.predict_proba(X) - other.predict_proba(X)).max() > 1e-4


def test_examples_of_weight_zero_take_no_part():
    weight = np.arange(len(X)) % 2
    one = small().fit(X, Y, weight)
    other = small().fit(X[1::2], Y[1::2])
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


def test_the_model_kept_is_that_of_the_best_epoch():
    valid = (X[:40], Y[:40])
    model = small(epochs=30, patience=2, learning_rate=0.3).fit(X[40:], Y[40:], valid=valid)
    losses = model.history_.valid_loss
    assert model.n_iter_ == len(losses) == model.best_epoch_ + 2 < 30
    expected = log_loss(valid[1], model.predict_proba(valid[0]))
    assert losses.min() == pytest.approx(expected, rel=1e-4)


def test_it_learns():
    model = small(epochs=60).fit(X, Y)
    assert model.score(X, Y) > 0.9


@pytest.mark.parametrize(
    "classes",
    [["b", "c", "a"], [-3, 7, 0], [1.0, 3.0, 2.0], np.array(["x", "yy", "z"], object)],
    ids=["strings", "negative", "floats", "objects"],
)
def test_labels_of_any_kind(classes):
    classes = np.asarray(classes)
    model = small().fit(X, classes[Y])
    order = np.argsort(classes)
    plain = small().fit(X, np.argsort(order)[Y])
    np.testing.assert_array_equal(model.classes_, classes[order])
    np.testing.assert_array_equal(model.predict(X), classes[order][plain.predict(X)])
    assert model.predict(X).dtype == classes.dtype


def test_one_class_is_always_predicted():
    model = small().fit(X, np.full(len(X), "only"))
    assert set(model.predict(X)) == {"only"}
    np.testing.assert_array_equal(model.predict_proba(X), np.ones((len(X), 1)))


FITTED = small().fit(X, Y)
MANY = RANDOM.normal(size=(2 * BLOCK + 3, 4)).astype(np.float32)
PREDICTED = FITTED.predict_proba(MANY)


@settings(deadline=None, max_examples=25)
@given(rows=st.lists(st.integers(0, len(MANY) - 1), min_size=1, max_size=2 * BLOCK))
def test_the_prediction_of_a_row_does_not_depend_on_its_neighbours(rows):
    np.testing.assert_array_equal(FITTED.predict_proba(MANY[rows]), PREDICTED[rows])


def test_the_seed_decides():
    same, other = small().fit(X, Y), small(random_state=1).fit(X, Y)
    np.testing.assert_array_equal(same.predict_proba(MANY), PREDICTED)
    assert np.abs(other.predict_proba(MANY) - PREDICTED).max() > 1e-3
    one, two = (small(random_state=None).fit(X, Y).predict_proba(MANY) for _ in range(2))
    assert np.abs(one - two).max() > 1e-3


def dumped(model, tmp_path):
    joblib.dump(model, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib")


COPIES = {
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "joblib": dumped,
    "deepcopy": lambda model, _: copy.deepcopy(model),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_predicts_and_learns_on_as_the_original(how, tmp_path):
    noisy = {"batch_norm": True, "dropout_rate": 0.3, "input_dropout_rate": 0.1}
    model = small(activation="rrelu", optimizer="momentum", **noisy)
    model.set_params(optimizer_kwargs={"momentum": 0.9}).fit(X, Y).partial_fit(X, Y)
    model.set_params(units=(5, 5))  # for the next `fit`
    twin = COPIES[how](model, tmp_path)
    for _ in range(2):
        np.testing.assert_array_equal(twin.predict_proba(X), model.predict_proba(X))
        before = model.predict_proba(X)
        twin.partial_fit(X, Y)
        model.partial_fit(X, Y)
        assert np.abs(model.predict_proba(X) - before).max() > 0


def softmax_regression(calls, rate, decay):
    """Momentum on the mean cross entropy, the whole data a step, from the estimator's weights."""
    start = small(units=(), optimizer="sgd", learning_rate=0.0).partial_fit(X, Y, range(3)).model_
    kernel = np.asarray(start.logits.kernel[...], np.float64)
    bias, trace = np.zeros(3), [0.0, 0.0]
    for _ in range(calls):
        outputs = np.exp(X @ kernel + bias)
        error = (outputs / outputs.sum(axis=1, keepdims=True) - np.eye(3)[Y]) / len(X)
        grads = X.T @ error, error.sum(axis=0)
        trace = [decay * t + g for t, g in zip(trace, grads, strict=True)]
        kernel, bias = kernel - rate * trace[0], bias - rate * trace[1]
    return kernel, bias


def test_partial_fit_keeps_the_state_of_the_optimizer():
    model = small(units=(), optimizer="momentum", learning_rate=0.5, batch_size=1000)
    for call in range(3):
        model.partial_fit(X, Y, classes=range(3) if call == 0 else None)
    kernel, bias = softmax_regression(3, 0.5, 0.9)
    np.testing.assert_allclose(model.model_.logits.kernel[...], kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.model_.logits.bias[...], bias, rtol=1e-4, atol=1e-6)
    assert model.n_iter_ == 3


def test_partial_fit_drops_no_example():
    # Of a linear model on the identity, each example moves its own row of the kernel alone.
    x, y = np.eye(7, dtype=np.float32), np.arange(7) % 2
    kernels = [
        small(units=(), optimizer="sgd", learning_rate=rate, batch_size=3)
        .partial_fit(x, y, classes=[0, 1])
        .model_.logits.kernel[...]
        for rate in (0.0, 0.1)
    ]
    assert (np.abs(kernels[1] - kernels[0]).max(axis=1) > 1e-3).all()


def test_partial_fit_goes_on_from_fit():
    model = small().fit(X, Y)
    before = model.predict_proba(X)
    model.set_params(learning_rate=1e-6).partial_fit(X, Y)
    moved = np.abs(model.predict_proba(X) - before).max()
    assert 0 < moved < 1e-3
    assert model.n_iter_ == 4
    with pytest.raises(ValueError, match="optimizer must not change between calls"):
        model.set_params(optimizer="sgd").partial_fit(X, Y)


def test_partial_fit_keeps_the_model_where_the_loss_is_not_finite():
    model = small(optimizer="sgd").partial_fit(X, Y, classes=[0, 1, 2])
    before = model.predict_proba(X)
    with pytest.raises(FloatingPointError, match="lower learning rate"):
        model.set_params(learning_rate=1e30).partial_fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), before)


@given(
    counts=st.lists(st.integers(1, 40), min_size=1, max_size=6).filter(lambda c: max(c) > 1),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_the_validation_set_has_its_share_of_each_class(counts, fraction, seed):
    random = np.random.RandomState(seed)
    labels = random.permutation(np.repeat(np.arange(len(counts)), counts))
    rows = validation_rows(labels, fraction, random)
    spare = np.array(counts) - 1
    assert len(set(rows)) == len(rows) == min(spare.sum(), max(1, round(fraction * len(labels))))
    held = np.bincount(labels[rows], minlength=len(counts))
    assert (held <= spare).all()  # one of each class is left to train on
    assert (np.abs(held - len(rows) * spare / spare.sum()) < 1).all()


def test_searches_and_pipelines():
    pipeline = make_pipeline(StandardScaler(), small())
    grid = GridSearchCV(pipeline, {"dnnclassifier__epochs": [1, 30]}, cv=2).fit(X, Y)
    assert grid.best_params_ == {"dnnclassifier__epochs": 30}
    space = {"epochs": [2, 3], "learning_rate": scipy.stats.loguniform(1e-3, 1e-1)}
    search = RandomizedSearchCV(small(), space, n_iter=2, cv=2, random_state=0).fit(X, Y)
    np.testing.assert_array_equal(
        clone(search.best_estimator_).fit(X, Y).predict_proba(X), search.predict_proba(X)
    )


@pytest.mark.parametrize("optimizer", jc.optimizers.by_name())
def test_every_optimizer_has_a_name(optimizer):
    params = {"w": np.ones(3, np.float32)}
    updates = [
        tx.update(params, tx.init(params), params)[0]["w"]
        for tx in (small(optimizer=optimizer)._tx(), getattr(jc, optimizer)(0.02))
    ]
    np.testing.assert_array_equal(*updates)


def test_a_function_makes_the_optimizer():
    model = small(optimizer=jc.adamw, optimizer_kwargs={"weight_decay": 0.1}).fit(X, Y)
    mask = {"weight_decay": 0.1, "mask": lambda params: False}
    unmasked = small(optimizer="adamw", optimizer_kwargs={"weight_decay": 0.1}).fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), unmasked.predict_proba(X))
    assert small(optimizer="adamw", optimizer_kwargs=mask)._tx() is not model._tx()
    assert clone(model)._tx() is model._tx()  # so that the program is compiled once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": (0,)}, "DNNClassifier: each of units must be a whole number >= 1, got 0"),
        ({"units": 100}, "DNNClassifier: units must be a sequence"),
        ({"activation": "eluu"}, "DNNClassifier: activation must"),
        ({"dropout_rate": 1.0}, r"DNNClassifier: dropout_rate must lie in \[0, 1\)"),
        ({"optimizer": "adm"}, "DNNClassifier: optimizer must be a function .* got 'adm'"),
        ({"optimizer": lambda rate: rate}, "DNNClassifier: tx must be a gradient transformation"),
        ({"optimizer_kwargs": {"b3": 1}}, "the optimizer does not take optimizer_kwargs=.*b3"),
        ({"optimizer_kwargs": {"b1": 2.0}}, r"DNNClassifier: b1 must lie in \[0, 1\), got 2.0"),
        ({"optimizer_kwargs": [1]}, "DNNClassifier: optimizer_kwargs must be a dictionary"),
        ({"learning_rate": -1.0}, "DNNClassifier: learning_rate must"),
        ({"batch_size": 0}, "DNNClassifier: batch_size must be a whole number >= 1, got 0"),
        ({"epochs": 1.5}, "DNNClassifier: epochs must be a whole number >= 1, got 1.5"),
        ({"patience": 0}, "DNNClassifier: patience must be a whole number >= 1, got 0"),
        ({"validation_fraction": 1}, r"DNNClassifier: validation_fraction must lie in \[0, 1\)"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_bad_arguments_are_named(method, arguments, message):
    model = small(**arguments)
    classes = {"classes": [0, 1, 2]} if method == "partial_fit" else {}
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(X, Y, **classes)
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small().fit(X, Y, np.zeros(len(X))), "weights of train|all zero|not all 0|zero"),
        (lambda: small().fit(X, Y, -np.ones(len(X))), "[Nn]egative"),
        (lambda: small().fit(X, X[:, 0]), "[Uu]nknown label type"),
        (lambda: small().fit(X, Y, valid=(X, Y + 5)), "previously unseen labels"),
        (lambda: small().fit(X, Y, valid=(X[:, :2], Y)), "2 features"),
        (lambda: small().fit(X, Y, valid=X), r"DNNClassifier: valid must be a pair \(X, y\)"),
        (lambda: small().fit(X[:3], [0, 1, 2]), "n_samples=3 do not allow"),
        (lambda: small().partial_fit(X, Y), "classes must be passed on the first call"),
        (lambda: small().partial_fit(X, Y, [0, 1]), "previously unseen labels"),
        (lambda: clone(FITTED).fit(X, Y).partial_fit(X, Y + 1), "previously unseen labels"),
    ],
)
def test_bad_data_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sparse_inputs_are_refused_as_by_scikit_learn():
    with pytest.raises(TypeError, match="Sparse data was passed"):
        small().fit(scipy.sparse.csr_array(X), Y)


def test_the_model_is_the_chapters():
    parameters = nnx.to_pure_dict(nnx.state(DNNClassifier(epochs=1).fit(X, Y).model_, nnx.Param))
    assert set(parameters) == {*(f"hidden{i}" for i in range(1, 6)), "logits"}
    assert parameters["hidden5"]["kernel"].shape == (100, 100)


def test_importing_training_does_not_import_scikit_learn():
    code = "import sys; import jaxopt_cards.training; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "False"


def test_training_has_no_other_hidden_names():
    assert not hasattr(training, "dnn_classifier")
