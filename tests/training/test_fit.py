"""`fit`: it learns, keeps the best, stops, resumes to the same bits, and refuses nonsense."""

import itertools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training, transfer
from jaxopt_cards.training import epoch_program as _epoch
from tests.training.blobs import TRAIN, VALID, blobs

ADAM = jc.adam(3e-3)


def model(seed=0, **kwargs):
    return layers.MLP(6, 3, units=(16, 8), rngs=nnx.Rngs(seed), **kwargs)


def fit(net=None, tx=ADAM, **kwargs):
    settings = {"train": TRAIN, "valid": VALID, "batch_size": 20, "epochs": 8, "progress": False}
    return training.fit(net or model(), tx, **(settings | kwargs))


@pytest.fixture
def compilations():
    """Grows by one entry with each compilation by XLA."""
    events = []

    def listen(name, seconds, **details):
        if name == "/jax/core/compile/backend_compile_duration":
            events.append(details)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.clear_event_listeners()


def params_of(net):
    return nnx.to_pure_dict(nnx.state(net, nnx.Param))


def test_what_is_long_is_cut_in_errors():
    network = layers.MLP(4, 3, rngs=nnx.Rngs(0))
    assert len(repr(network)) > 1000
    with pytest.raises(ValueError, match="tx must be a gradient transformation") as caught:
        training.fit(network, network, train=([], []), valid=([], []))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_learns_and_reports():
    result = fit(epochs=20)
    assert result.stopped == "epochs"
    assert all(len(column) == 20 for column in result.history)
    assert result.history.train_loss[-1] < 0.5 * result.history.train_loss[0]
    measured = training.evaluate(result.model, *VALID)
    best = result.best_epoch - 1
    assert best == np.argmin(result.history.valid_loss)
    assert measured["loss"] == pytest.approx(result.history.valid_loss[best], rel=1e-5)
    assert measured["accuracy"] == pytest.approx(result.history.valid_accuracy[best])


def test_equals_a_plain_loop_over_the_same_batches():
    net, key = model(), jax.random.key(5)
    params, n = params_of(net), len(TRAIN.y)
    graph, _, rest = nnx.split(net, nnx.Param, ...)
    state = ADAM.init(params)

    def loss(params, x, y):
        outputs = nnx.merge(graph, params, rest)(x)
        return optax.softmax_cross_entropy_with_integer_labels(outputs, y).mean()

    for epoch in range(2):
        order = np.argsort(jax.random.bits(jax.random.fold_in(key, epoch), (n,)), stable=True)
        for start in range(0, n, 20):  # the last batch has 10 examples
            rows = order[start : start + 20]
            grads = jax.grad(loss)(params, TRAIN.x[rows], TRAIN.y[rows])
            updates, state = ADAM.update(grads, state, params)
            params = optax.apply_updates(params, updates)
    result = fit(net, epochs=2, seed=5)
    assert result.best_epoch == 2
    chex.assert_trees_all_close(params_of(result.model), params, rtol=1e-4, atol=1e-6)


def test_no_example_is_dropped():
    rows, real = _epoch.in_batches(jnp.arange(7), 3)
    assert rows.shape == real.shape == (3, 3)
    assert sorted(rows[real > 0].tolist()) == list(range(7))
    np.testing.assert_array_equal(real.sum(axis=1), [3, 3, 1])


def test_the_model_given_is_not_changed():
    net = model(dropout_rate=0.2)
    before = jax.tree.map(np.asarray, params_of(net))
    fit(net)
    chex.assert_trees_all_equal(params_of(net), before)
    assert not net.dropout.deterministic
    assert fit(net).model.dropout.deterministic


@pytest.mark.parametrize("dropout_rate", [0.0, 0.3])
def test_the_same_seeds_give_the_same_bits(dropout_rate):
    first, second = (fit(model(dropout_rate=dropout_rate)) for _ in range(2))
    chex.assert_trees_all_equal(params_of(first.model), params_of(second.model))
    other = fit(model(dropout_rate=dropout_rate), seed=1)
    assert not np.array_equal(other.history.train_loss, first.history.train_loss)


def test_stops_when_patience_ends_and_keeps_the_best():
    noise = data.Examples(VALID.x, np.random.default_rng(2).integers(0, 3, len(VALID.y)))
    result = fit(tx=jc.adam(0.05), valid=noise, epochs=100, patience=3)
    assert result.stopped == "patience"
    assert len(result.history.seconds) == result.best_epoch + 3
    measured = training.evaluate(result.model, *noise)["loss"]
    assert measured == pytest.approx(result.history.valid_loss.min(), rel=1e-5)


def test_equal_programs_compile_once(compilations):
    fit(model(0), epochs=1)
    before = len(compilations)
    result = fit(model(1), epochs=1, seed=3)
    assert len(compilations) == before
    training.evaluate(result.model, *VALID)
    before = len(compilations)
    training.evaluate(fit(model(2), epochs=1).model, *VALID)
    assert len(compilations) == before


def test_with_64_bit_types(x64):
    result = fit(model(), epochs=2)
    assert result.history.train_loss.dtype == np.float64
    assert result.history.valid_loss[1] < result.history.valid_loss[0]


def test_frozen_parameters_have_no_gradient_and_no_state_and_do_not_move():
    net = model()
    decaying = jc.adamw(0.01, weight_decay=0.5)
    result = fit(net, decaying, trainable=transfer.freeze("hidden"))
    before, after = params_of(net), params_of(result.model)
    chex.assert_trees_all_equal(before["hidden1"], after["hidden1"])
    assert not np.array_equal(before["logits"]["kernel"], after["logits"]["kernel"])

    flops, state_leaves = {}, {}
    for name, trainable in (("frozen", transfer.freeze("hidden")), ("whole", nnx.Param)):
        graph, arrays, frozen = _epoch.split(net, trainable)
        state_leaves[name] = len(jax.tree.leaves(decaying.init(arrays.params)))

        def loss(params, graph=graph, arrays=arrays, frozen=frozen):
            return _epoch.merge(graph, arrays._replace(params=params), frozen)(TRAIN.x).sum()

        program = jax.jit(jax.grad(loss)).lower(arrays.params)
        flops[name] = program.cost_analysis()["flops"]
    assert state_leaves == {"frozen": 1 + 2 * 2, "whole": 1 + 2 * 6}
    assert flops["frozen"] < 0.6 * flops["whole"]


class Normalised(nnx.Module):
    def __init__(self, rngs):
        self.hidden1 = nnx.Linear(6, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, momentum=0.5, rngs=rngs)
        self.logits = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        return self.logits(jax.nn.elu(self.norm(self.hidden1(x))))


def test_batch_statistics_are_carried_and_used():
    net = Normalised(nnx.Rngs(0))
    hidden = net.hidden1(TRAIN.x)
    still = fit(net, jc.sgd(0.0), epochs=1, batch_size=150).model.norm
    np.testing.assert_allclose(still.mean[...], 0.5 * hidden.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(still.var[...], 0.5 + 0.5 * hidden.var(axis=0), rtol=1e-4)
    np.testing.assert_array_equal(net.norm.mean[...], 0)

    result = fit(net, jc.adam(0.03), epochs=10)
    assert result.history.valid_accuracy.max() > 0.9
    measured = training.evaluate(result.model, *VALID)  # with the running statistics
    assert measured["loss"] == pytest.approx(result.history.valid_loss.min(), rel=1e-5)


def test_the_loss_reaches_transformations_that_ask_for_it():
    seen = []

    def update(updates, state, params=None, *, value, **extra):
        jax.debug.callback(lambda value: seen.append(float(value)), value)
        return updates, state

    spy = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    result = fit(tx=optax.chain(spy, jc.sgd(0.0)), epochs=1, batch_size=150)
    jax.effects_barrier()
    assert seen == [pytest.approx(result.history.train_loss[0])]


def test_regression_has_a_loss_and_no_accuracy():
    x = TRAIN.x
    train = (x, x @ np.ones((6, 1), np.float32))
    net = nnx.Linear(6, 1, rngs=nnx.Rngs(0))
    squared = lambda outputs, y: ((outputs - y) ** 2).sum(axis=1)  # noqa: E731
    result = fit(net, jc.adam(0.05), train=train, valid=train, loss=squared, epochs=60)
    assert result.history.valid_loss[-1] < 0.1
    assert np.isnan(result.history.valid_accuracy).all()


def test_a_run_that_diverges_keeps_its_best_or_says_what_happened():
    ramp = lambda step: jnp.where(step < 12, 1e-2, 1e38)  # noqa: E731
    with pytest.warns(
        RuntimeWarning, match="not finite since step 6 of epoch 2.*lower learning"
    ) as w:
        result = fit(tx=jc.sgd(ramp), epochs=50)
    assert result.stopped == "not finite"
    assert result.trouble in str(w[0].message)
    assert re.search("largest weight was .*e.*, in (hidden.|logits)/", result.trouble)
    chex.assert_tree_all_finite(params_of(result.model))
    with pytest.raises(
        FloatingPointError, match=r"validation loss was never finite\. the loss is not"
    ):
        fit(tx=jc.sgd(1e38), epochs=50)
    with pytest.raises(
        FloatingPointError, match=r"never finite.*not finite in epoch 1, though.*try a lower"
    ):
        fit(tx=jc.sgd(1e38), epochs=1, batch_size=150)


def test_weights_count_examples_as_often_as_they_say():
    twice = np.arange(150) < 50
    weighted = fit(train=(*TRAIN, 1.0 + twice), batch_size=150, epochs=3)
    rows = np.concatenate([np.arange(150), np.arange(50)])
    repeated = fit(train=(TRAIN.x[rows], TRAIN.y[rows]), batch_size=200, epochs=3)
    chex.assert_trees_all_close(
        params_of(weighted.model), params_of(repeated.model), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(weighted.history.train_loss, repeated.history.train_loss, rtol=1e-5)


def test_a_regularizer_is_added_to_the_loss_but_not_to_the_history():
    penalty = lambda params: 1e-2 * optax.tree.norm(params, squared=True)  # noqa: E731
    by_loss = fit(tx=jc.sgd(0.1), epochs=2, regularizer=penalty)
    by_decay = fit(tx=jc.chain(jc.add_decayed_weights(2e-2), jc.sgd(0.1)), epochs=2)
    chex.assert_trees_all_close(params_of(by_loss.model), params_of(by_decay.model), rtol=1e-4)
    np.testing.assert_allclose(by_loss.history.train_loss, by_decay.history.train_loss, rtol=1e-5)


def test_inputs_are_augmented_anew_in_every_step():
    noisy = lambda key, x: x + jax.random.normal(key, x.shape)  # noqa: E731
    one_batch = {"batch_size": 150, "epochs": 4, "tx": jc.sgd(0.0)}
    losses = fit(augment=noisy, **one_batch).history.train_loss
    assert len(set(losses)) == 4
    np.testing.assert_array_equal(fit(augment=noisy, **one_batch).history.train_loss, losses)
    assert len(set(fit(**one_batch).history.valid_loss)) == 1


def test_a_line_search_may_measure_the_batch_at_other_points():
    searching, fixed = (
        fit(tx=tx, batch_size=len(TRAIN.y), epochs=10).history.train_loss
        for tx in (jc.lbfgs(), jc.sgd(0.1))
    )
    assert all(after < before for before, after in itertools.pairwise(searching))
    assert searching[-1] < fixed[-1]


def test_the_plateaus_factor_multiplies_the_updates_of_the_next_epoch():
    plateau = jc.reduce_on_plateau(factor=0.1, patience=2)
    wrong = data.Examples(VALID.x, (VALID.y + 1) % 3)  # gets worse with every epoch
    settings = {"batch_size": 150, "epochs": 6, "tx": jc.sgd(0.1), "valid": wrong}
    result = fit(plateau=plateau, **settings)

    graph, params, rest = nnx.split(model(), nnx.Param, ...)
    mean_loss = lambda params, x, y: optax.softmax_cross_entropy_with_integer_labels(  # noqa: E731
        nnx.merge(graph, params, rest)(x), y
    ).mean()
    factor, state, losses = jnp.ones(()), plateau.init(jnp.ones(())), []
    for _ in range(6):
        grads = jax.grad(mean_loss)(params, *TRAIN)
        params = jax.tree.map(lambda p, g, f=factor: p - 0.1 * f * g, params, grads)
        losses.append(mean_loss(params, *wrong))
        factor, state = plateau.update(jnp.ones(()), state, value=losses[-1])
    assert float(factor) < 0.02  # it fell twice
    np.testing.assert_allclose(result.history.valid_loss, losses, rtol=1e-5)


@pytest.mark.parametrize("dropout_rate", [0.0, 0.3])
def test_a_run_cut_short_resumes_to_the_same_bits(tmp_path, dropout_rate):
    whole = fit(model(dropout_rate=dropout_rate), epochs=7)
    net = lambda: model(dropout_rate=dropout_rate)  # noqa: E731
    fit(net(), epochs=3, checkpoints=training.Checkpoints(tmp_path, every=2))
    resumed = fit(net(), epochs=7, checkpoints=training.Checkpoints(tmp_path, every=2))
    chex.assert_trees_all_equal(params_of(resumed.model), params_of(whole.model))
    for column in ("train_loss", "valid_loss", "valid_accuracy"):
        ours, theirs = getattr(resumed.history, column), getattr(whole.history, column)
        np.testing.assert_array_equal(ours, theirs)
    again = fit(net(), epochs=7, checkpoints=tmp_path)
    chex.assert_trees_all_equal(params_of(again.model), params_of(whole.model))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    fit(epochs=2, checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"holds another run:\n  seed: saved 0, now 1\nGive"):
        fit(epochs=4, checkpoints=tmp_path, seed=1)
    with pytest.raises(ValueError, match=r"training data \(CRC-32\): saved"):
        fit(epochs=4, checkpoints=tmp_path, train=blobs(150, 7))
    for other in ({"net": model(1)}, {"valid": blobs(60, 8)}):
        with pytest.raises(ValueError, match=r"(initial model|validation data) \(CRC-32\): saved"):
            fit(epochs=4, checkpoints=tmp_path, **other)
    with pytest.raises(ValueError, match=r"another model or optimizer; only in it:\n  best/params"):
        fit(layers.MLP(6, 3, units=(9,), rngs=nnx.Rngs(0)), checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"another model or optimizer; only in it:\n  opt_state"):
        fit(tx=jc.sgd(0.1), checkpoints=tmp_path)
    with pytest.raises(ValueError, match=r"another run:\n  optimizer: another one, or .*\nGive"):
        fit(tx=jc.adam(4e-3), checkpoints=tmp_path)


def test_a_checkpoint_on_other_frozen_parameters_is_refused(tmp_path):
    head = {"trainable": transfer.freeze("hidden"), "checkpoints": tmp_path}
    fit(epochs=2, **head)
    other, _ = transfer.restore(model(1), model(0), "logits")
    with pytest.raises(ValueError, match=r"run:\n  frozen parameters \(CRC-32\): saved.*\nGive"):
        fit(other, epochs=4, **head)


def test_seeds_of_numpy_and_jax(tmp_path):
    whole = fit(seed=3, epochs=2)
    for number, seed in enumerate((np.int64(3), jnp.array(3))):
        same = fit(seed=seed, epochs=2, checkpoints=tmp_path / str(number))
        chex.assert_trees_all_equal(params_of(same.model), params_of(whole.model))


def test_plain_lines_where_there_is_no_terminal(capsys):
    fit(progress=True)
    assert "best epoch 8 of 8: validation loss" in capsys.readouterr().out
    fit(progress=False)
    assert capsys.readouterr().out == ""


class Pair(nnx.Module):
    def __init__(self, rngs):
        self.logits = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.logits(x), x


def test_a_model_with_several_outputs_needs_a_loss_of_its_own():
    first = lambda outputs, y: (  # noqa: E731
        optax.softmax_cross_entropy_with_integer_labels(outputs[0], y)
    )
    result = fit(Pair(nnx.Rngs(0)), loss=first)
    assert result.history.valid_loss[-1] < result.history.valid_loss[0]


BAD_LABELS = data.Examples(TRAIN.x, np.where(np.arange(150) == 9, 3, TRAIN.y))
NEGATIVE = data.Examples(TRAIN.x, np.where(np.arange(150) == 9, -1, TRAIN.y))
HOLE = data.Examples(np.where(np.arange(900).reshape(150, 6) == 32, np.nan, TRAIN.x), TRAIN.y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": (TRAIN.x[:0], TRAIN.y[:0])}, r"fit: train is empty: .*\(0, 6\)"),
        ({"valid": (VALID.x[:0], VALID.y[:0])}, "fit: valid is empty"),
        (
            {"train": (TRAIN.x, TRAIN.y[:9])},
            r"fit: train must have .* got the shapes \(150, 6\) and",
        ),
        ({"train": TRAIN.x}, r"fit: train must be \(x, y\) or \(x, y, weight\)"),
        ({"valid": (*VALID, VALID.y, VALID.y)}, r"fit: valid must be \(x, y\) or \(x, y, weight\)"),
        ({"train": (*TRAIN, -TRAIN.y)}, "the weights of train must be 150 numbers >= 0, not all 0"),
        ({"train": BAD_LABELS}, r"labels of train must lie in \[0, 2\].* got values from 0 to 3"),
        ({"train": NEGATIVE}, r"labels of train must lie in \[0, 2\].* got values from -1 to 2"),
        ({"valid": (VALID.x, VALID.y + 1)}, r"labels of valid must lie in \[0, 2\]"),
        (
            {"train": (TRAIN.x, TRAIN.y / 1.0)},
            r"the default loss takes integer labels .* train float32",
        ),
        ({"train": HOLE}, r"fit: the inputs of train must be finite, got nan at \[5, 2\]"),
        (
            {"train": (TRAIN.x[:, :5], TRAIN.y)},
            r"the model does not take inputs of the shape \(5,\)",
        ),
        ({"batch_size": 0}, "fit: batch_size must be a whole number >= 1, got 0"),
        ({"batch_size": 151}, "fit: batch_size must be at most the 150 training examples, got 151"),
        ({"epochs": 0}, "fit: epochs must be a whole number >= 1, got 0"),
        ({"patience": 0}, "fit: patience must be a whole number >= 1, got 0"),
        ({"checkpoint_every": 1}, "fit: checkpoint_every must be given as checkpoints=Checkp"),
        ({"checkpoints": 3}, "fit: checkpoints must be a path or Checkpoints, got 3"),
        ({"epoch": 3}, "fit: there is no argument epoch, did you mean epochs?"),
        ({"seed": -1}, "fit: seed must be a whole number >= 0, got -1"),
        ({"seed": 0.5}, "fit: seed must be a whole number >= 0, got 0.5"),
        (
            {"net": Pair(nnx.Rngs(0))},
            "fit: the default loss takes a model whose output is one array, got tuple",
        ),
        ({"loss": lambda o, y: o.sum()}, r"fit: loss must return one number per example"),
        (
            {"trainable": transfer.freeze("hiden")},
            r"matches none of the parameters\n  hidden1/bias",
        ),
        ({"trainable": transfer.freeze("")}, r"leaves no parameter to train; there are\n  hidden1"),
    ],
)
def test_bad_input(settings, message):
    with pytest.raises(ValueError, match=message):
        fit(**settings)


def test_evaluate_refuses_what_fit_refuses():
    with pytest.raises(ValueError, match="evaluate: the data is empty"):
        training.evaluate(model(), TRAIN.x[:0], TRAIN.y[:0])
    with pytest.raises(ValueError, match="evaluate: the labels of the data must lie in"):
        training.evaluate(model(), *BAD_LABELS)


def test_evaluation_in_batches_equals_evaluation_in_one(monkeypatch):
    whole = training.evaluate(model(), *TRAIN)
    monkeypatch.setattr(_epoch, "EVALUATION_BATCH", 40)
    _epoch.measure.clear_cache()
    parts = training.evaluate(model(), *TRAIN)
    assert parts == pytest.approx(whole, rel=1e-5)


def test_a_loss_without_classes_prints_no_accuracy(capsys):
    def squares(outputs, y):
        return jnp.sum((outputs - y[:, None]) ** 2, axis=1)

    x, y = np.ones((6, 2), np.float32), np.ones(6, np.float32)
    net = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    training.fit(net, ADAM, train=(x, y), valid=(x, y), loss=squares, epochs=1, batch_size=3)
    told = capsys.readouterr().out
    assert "validation loss" in told
    assert "accuracy" not in told
