"""Fine-tuning: stages, rates by layer, moments that are kept."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from tests.training.blobs import TRAIN, VALID

WHOLE = {"train": TRAIN, "valid": VALID, "batch_size": 150, "progress": False}  # one step an epoch


@pytest.fixture(autouse=True)
def _promotion():
    with jax.numpy_dtype_promotion("standard"):  # Optax's one-cycle schedule mixes bool and float
        yield


def model(seed=0, units=(8, 4), **kwargs):
    return layers.MLP(6, 3, units=units, rngs=nnx.Rngs(seed), **kwargs)


def params_of(net):
    return nnx.to_pure_dict(nnx.state(net, nnx.Param))


def cycles(*parts):
    """One-cycle schedules one after the other: (steps, peak, share of warm-up, division)."""
    schedules = [
        optax.cosine_onecycle_schedule(steps, peak, warm_up, div, 1e5 / div)
        for steps, peak, warm_up, div in parts
    ]
    return optax.join_schedules(schedules, np.cumsum([steps for steps, *_ in parts])[:-1].tolist())


def test_the_head_alone_is_what_fit_does_with_the_rest_frozen():
    only_head = transfer.unfreeze_schedule({0: "logits"})
    result = transfer.fine_tune(model(), epochs=6, base_lr=0.1, schedule=only_head, **WHOLE)
    rate = cycles((6, 0.1, 0.99, 25.0))
    expected = training.fit(
        model(), optax.adam(rate), epochs=6, trainable=transfer.freeze("hidden"), **WHOLE
    )
    chex.assert_trees_all_close(params_of(result.model), params_of(expected.model), rtol=1e-5)
    chex.assert_trees_all_equal(params_of(result.model)["hidden1"], params_of(model())["hidden1"])
    assert result.best_epoch == 6


def test_stages_keep_moments_and_give_lower_layers_smaller_rates():
    # By hand: momentum for each layer from when it joined, at rates of a geometric series.
    result = transfer.fine_tune(
        model(),
        functools.partial(jc.momentum, momentum=0.9),
        epochs=8,
        freeze_epochs=4,
        base_lr=0.05,
        lr_mult=100,
        **WHOLE,
    )
    np.testing.assert_array_equal(np.argsort(result.history.valid_loss)[::-1], np.arange(12))
    rate = cycles((4, 0.05, 0.99, 25.0), (8, 0.025, 0.3, 5.0))
    graph, params, rest = nnx.split(model(), nnx.Param, ...)
    params = nnx.to_pure_dict(params)

    def loss(params):
        logits = nnx.merge(graph, nnx.State(params), rest, copy=True)(TRAIN.x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, TRAIN.y).mean()

    trace = jax.tree.map(jnp.zeros_like, params)
    share = {"hidden1": 0.01, "hidden2": 0.1, "logits": 1.0}
    for step in range(12):
        grads = jax.grad(loss)(params)
        for layer in share if step >= 4 else ["logits"]:
            for name in ("kernel", "bias"):
                trace[layer][name] = 0.9 * trace[layer][name] + grads[layer][name]
                change = share[layer] * rate(step) * trace[layer][name]
                params[layer][name] = params[layer][name] - change
    chex.assert_trees_all_close(params_of(result.model), params, rtol=1e-4, atol=1e-6)


def test_adam_begins_anew_with_layers_that_join():
    schedule = transfer.unfreeze_schedule({0: "logits", 10: "hidden2", 20: ""})
    result = transfer.fine_tune(model(), epochs=21, lr_mult=1, schedule=schedule, **WHOLE)
    before = transfer.fine_tune(model(), epochs=20, lr_mult=1, schedule=SCHEDULE_OF_TWO, **WHOLE)
    # The first step of Adam is the rate itself, whatever the gradient; were the count carried over
    # to new moments, it would be three times that.
    start, end = (params_of(r.model)["hidden1"]["bias"] for r in (before, result))
    rate = float(cycles((1, 1e-3, 0.3, 5.0))(0))
    assert np.abs(end - start).max() == pytest.approx(rate, rel=1e-2)


SCHEDULE_OF_TWO = transfer.unfreeze_schedule({0: "logits", 10: "hidden2"})


def test_one_run_of_all_stages_comes_back():
    result = transfer.fine_tune(model(), epochs=3, freeze_epochs=2, base_lr=0.01, **WHOLE)
    assert len(result.history.train_loss) == len(result.history.seconds) == 5
    least = int(np.argmin(result.history.valid_loss))
    assert result.best_epoch == least + 1
    assert result.stopped == "epochs"
    measured = training.evaluate(result.model, *VALID)["loss"]
    assert measured == pytest.approx(result.history.valid_loss[least])


def test_the_best_stage_wins():
    # So high a rate that the second stage only destroys.
    result = transfer.fine_tune(
        model(), jc.sgd, epochs=2, freeze_epochs=2, base_lr=1e4, lr_mult=1, **WHOLE
    )
    first = transfer.fine_tune(
        model(), jc.sgd, epochs=2, base_lr=1e4, lr_mult=1, schedule=HEAD, **WHOLE
    )
    if result.best_epoch <= 2:
        chex.assert_trees_all_equal(params_of(result.model), params_of(first.model))
    assert result.history.valid_loss[result.best_epoch - 1] == result.history.valid_loss.min()


HEAD = transfer.unfreeze_schedule({0: "logits"})


def test_a_stage_that_diverges_ends_it_and_what_was_good_stays():
    blow_up = lambda outputs, labels: (outputs**2).sum(axis=1)  # noqa: E731
    with pytest.warns(RuntimeWarning, match="the loss is not finite since"):
        result = transfer.fine_tune(
            model(), jc.sgd, loss=blow_up, epochs=30, freeze_epochs=1, base_lr=20.0, **WHOLE
        )
    assert result.stopped == "not finite"
    assert len(result.history.train_loss) < 31
    assert np.isfinite(result.history.valid_loss[result.best_epoch - 1])


def test_each_stage_has_an_order_and_an_augmentation_of_its_own():
    seen = []

    def augment(key, x):
        jax.debug.callback(
            lambda bits: seen.append(tuple(np.ravel(bits))), jax.random.key_data(key)
        )
        return x

    stages = transfer.unfreeze_schedule({0: "logits", 1: "hidden2", 2: ""})
    settings = {**WHOLE, "batch_size": 75, "augment": augment}
    transfer.fine_tune(model(), epochs=3, schedule=stages, **settings)
    jax.effects_barrier()
    assert len(seen) == len(set(seen)) == 6


def test_patterns_stay_apart():
    flagged = transfer.unfreeze_schedule(
        {0: "(?i)LOGITS", 1: "(?P<a>hidden1)", 2: "(?P<a>hidden2)"}
    )
    result = transfer.fine_tune(model(), epochs=3, schedule=flagged, **WHOLE)
    assert len(result.history.train_loss) == 3


def test_goes_on_from_checkpoints(tmp_path):
    settings = {"epochs": 3, "checkpoints": tmp_path, **WHOLE}
    first = transfer.fine_tune(model(), **settings)
    again = transfer.fine_tune(model(), **settings)
    np.testing.assert_array_equal(first.history, again.history)  # the seconds, too
    chex.assert_trees_all_equal(params_of(first.model), params_of(again.model))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stage0", "stage1"]


def test_equal_calls_share_their_optimizer():
    made = []

    def make_tx(rate):
        made.append(rate)
        return jc.adam(rate)

    for seed in (0, 1):
        transfer.fine_tune(model(seed), make_tx, epochs=1, seed=seed, **WHOLE)
    assert len(made) == 3  # one for the first stage, two for the second, none for the second call


def test_other_models_need_an_order():
    class Net(nnx.Module):
        def __init__(self):
            self.body = nnx.Linear(6, 4, rngs=nnx.Rngs(0))
            self.logits = nnx.Linear(4, 3, rngs=nnx.Rngs(1))

        def __call__(self, x):
            return self.logits(nnx.relu(self.body(x)))

    with pytest.raises(ValueError, match=r"fine_tune: order must list patterns .*'body/bias'"):
        transfer.fine_tune(Net(), epochs=1, **WHOLE)
    result = transfer.fine_tune(Net(), epochs=2, order=["body", "logits"], **WHOLE)
    assert result.best_epoch > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "fine_tune: epochs must be a whole number >= 1"),
        ({"freeze_epochs": 0}, "fine_tune: freeze_epochs must be a whole number >= 1"),
        ({"batch_size": 0}, "fine_tune: batch_size must be a whole number >= 1"),
        ({"base_lr": 0.0}, r"fine_tune: base_lr must lie in \(0, inf\), got 0.0"),
        ({"lr_mult": 0.5}, r"fine_tune: lr_mult must lie in \[1, inf\), got 0.5"),
        ({"head": "top"}, r"fine_tune: 'top' adds no parameter in epoch 0; there are\n  hidden1"),
        ({"patience": 3}, "fine_tune: patience must be left out, got 3"),
        ({"schedule": SCHEDULE_OF_TWO}, "fine_tune: epochs must be more than 10, got 2"),
        ({"train": 5}, r"fine_tune: train must be \(x, y\)"),
        ({"order": ["hidden"]}, "layerwise_decay: each parameter must match one pattern"),
        ({"order": "logits"}, "fine_tune: order must list patterns of the layers"),
        ({"order": [["hidden"]]}, "fine_tune: order must list patterns of the layers"),
        ({"schedule": {0: ""}}, "fine_tune: schedule must be made by unfreeze_schedule"),
        ({"make_tx": jc.adam(1e-3)}, "fine_tune: make_tx must be a function from a rate"),
        ({"make_tx": None}, "fine_tune: make_tx must be a function from a rate"),
        ({"make_tx": functools.partial(jc.adam, b1=2.0)}, r"^adam: b1 must lie in \[0, 1\)"),
        ({"learning_rate": 0.1}, "fine_tune: there is no argument learning_rate. fine_tune takes"),
        ({"seed": -1}, "fine_tune: seed must be a whole number >= 0"),
        ({"model": "net"}, "fine_tune: model must be an nnx.Module"),
    ],
)
def test_bad_calls(settings, message):
    settings = {"model": model(), "epochs": 2, **WHOLE, **settings}
    with pytest.raises(ValueError, match=message):
        transfer.fine_tune(settings.pop("model"), **settings)


@pytest.mark.parametrize("stages", [{}, {1: "a"}, {0: "a", 5: "b", 3: "c"}, [0, 1], "logits"])
def test_schedules_begin_with_0_and_ascend(stages):
    with pytest.raises(ValueError, match="unfreeze_schedule: stages must map ascending epochs"):
        transfer.unfreeze_schedule(stages)


def test_schedules_refuse_what_is_no_epoch_and_no_pattern():
    with pytest.raises(ValueError, match="each epoch of stages must be a whole number >= 0"):
        transfer.unfreeze_schedule({0: "a", 1.5: "b"})
    with pytest.raises(ValueError, match=r"unfreeze_schedule: 'a\(' is not a regular expression"):
        transfer.unfreeze_schedule({0: "a("})


def test_a_schedule_adds_stage_by_stage():
    schedule = transfer.unfreeze_schedule({0: "^logits/", 2: "hidden2/kernel$", 4: ""})
    names = {
        epoch: jc.selection.path_names(nnx.state(model(), schedule(epoch))) for epoch in range(6)
    }
    head = ["logits/bias", "logits/kernel"]
    assert names[0] == names[1] == head
    assert names[2] == names[3] == ["hidden2/kernel", *head]
    assert len(names[4]) == len(names[5]) == 6


def test_migrated_states_keep_what_fits():
    tx = jc.chain(
        jc.scale_by_adam(), jc.scale_by_learning_rate(jc.schedules.exponential_decay(0.1, 10, 0.5))
    )
    old = {"logits": jnp.ones(2), "gone": jnp.ones(3), "other": jnp.ones(4)}
    _, state = tx.update(old, tx.init(old), old)
    new = {"logits": jnp.ones(2), "hidden1": jnp.ones(3), "other": jnp.ones(5)}
    fresh = tx.init(new)
    migrated = transfer.migrate_state(state, fresh)
    chex.assert_trees_all_equal_shapes_and_dtypes(migrated, fresh)
    assert migrated[0].count == migrated[1].count == 1
    np.testing.assert_array_equal(migrated[0].mu["logits"], state[0].mu["logits"])
    for name in ("hidden1", "other"):
        np.testing.assert_array_equal(migrated[0].nu[name], 0)
    with pytest.raises(ValueError, match="migrate_state: the states must have arrays in common"):
        transfer.migrate_state({"a": jnp.ones(2)}, {"a": jnp.ones(3)})
    assert transfer.migrate_state(jc.sgd(0.1).init(old), jc.sgd(0.1).init(new))  # nothing to keep


def test_fit_goes_on_with_an_optimizer_s_state():
    tx = jc.momentum(0.05, 0.9)
    whole = training.fit(model(), tx, epochs=6, **WHOLE)
    first = training.fit(model(), tx, epochs=2, **WHOLE)
    second = training.fit(first.model, tx, epochs=4, opt_state=first.opt_state, **WHOLE)
    assert whole.best_epoch == 6  # so that the best is also the last
    chex.assert_trees_all_close(params_of(second.model), params_of(whole.model), rtol=1e-5)
    cold = training.fit(first.model, tx, epochs=4, **WHOLE)
    assert not np.allclose(
        params_of(cold.model)["logits"]["kernel"], params_of(whole.model)["logits"]["kernel"]
    )


def test_fit_refuses_the_state_of_another_optimizer_or_another_tree():
    state = training.fit(model(), jc.adam(1e-3), epochs=1, **WHOLE).opt_state
    with pytest.raises(
        ValueError, match=r"(?s)fit: opt_state must be .*mu/hidden1/bias is float32"
    ):
        training.fit(
            model(),
            jc.adam(1e-3),
            epochs=1,
            opt_state=state,
            trainable=transfer.freeze("hidden"),
            **WHOLE,
        )
    with pytest.raises(ValueError, match=r"(?s)fit: opt_state .*migrate_state.*trace"):
        training.fit(model(), jc.momentum(0.1), epochs=1, opt_state=state, **WHOLE)


def test_a_schedule_of_masks_trains_what_patterns_do():
    net = model()
    everything = jax.tree.map(lambda _: True, nnx.to_pure_dict(nnx.state(net, nnx.Param)))
    schedules = [
        transfer.unfreeze_schedule({0: "logits", 1: later})
        for later in ("", everything, lambda params: jax.tree.map(lambda _: True, params))
    ]
    losses = [
        transfer.fine_tune(net, schedule=each, epochs=3, **WHOLE).history.train_loss
        for each in schedules
    ]
    np.testing.assert_array_equal(losses[1], losses[0])
    np.testing.assert_array_equal(losses[2], losses[0])
