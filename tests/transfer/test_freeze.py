"""Frozen means free: no gradient, no state, no moving statistics."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from jaxopt_cards.training import epoch_program as _epoch
from jaxopt_cards.training.inputs import default_loss
from tests.training.blobs import TRAIN, VALID


def model(**kwargs):
    return layers.MLP(6, 3, units=(16, 16, 16), rngs=nnx.Rngs(0), **kwargs)


def compiled(trainable):
    """The compiled epoch, and the bytes of the optimizer's state."""
    program, arrays, frozen = _epoch.prepared(
        model(), trainable, default_loss, 10, _epoch.Options()
    )
    tx = jc.adam(1e-3)
    run = _epoch.first_run(program, arrays, tx)
    train, valid = (_epoch.Data(*map(jnp.asarray, part)) for part in (TRAIN, VALID))
    lowered = _epoch.compiled_epoch().lower(
        program, tx, run, frozen, train, valid, jax.random.key(0)
    )
    return lowered.compile(), sum(leaf.nbytes for leaf in jax.tree.leaves(run.opt_state))


def test_the_compiled_epoch_has_fewer_operations_and_less_state_the_more_is_frozen():
    filters = [nnx.Param, *(transfer.freeze(p) for p in ("hidden1", "hidden[12]", "hidden"))]
    programs, state = zip(*map(compiled, filters), strict=True)
    operations = [program.cost_analysis()["flops"] for program in programs]
    memory = [program.memory_analysis().output_size_in_bytes for program in programs]
    for falling in (operations, state, memory):
        assert list(falling) == sorted(set(falling), reverse=True)
    head = 16 * 3 + 3
    assert state[-1] == 4 * (2 * head + 1)  # two moments in float32, and a count


@pytest.mark.parametrize("batch_stats", [True, False])
def test_statistics_of_frozen_batch_normalisation_stay_unless_one_asks(batch_stats):
    net = model(batch_norm=True)
    result = training.fit(
        net,
        jc.adam(1e-2),
        train=TRAIN,
        valid=VALID,
        epochs=2,
        trainable=transfer.freeze("hidden[12]", batch_stats=batch_stats),
        progress=False,
    )
    before, after = (nnx.to_pure_dict(nnx.state(m, nnx.BatchStat)) for m in (net, result.model))
    for name in ("hidden1_norm", "hidden2_norm"):
        stayed = np.array_equal(before[name]["mean"], after[name]["mean"])
        assert stayed == batch_stats
        chex.assert_trees_all_equal(
            getattr(net, name).scale[...], getattr(result.model, name).scale[...]
        )
    assert not np.array_equal(before["hidden3_norm"]["mean"], after["hidden3_norm"]["mean"])


def test_batch_normalisation_is_frozen_where_all_its_parameters_are():
    net = model(batch_norm=True)
    for pattern, frozen in (
        ("hidden1_norm/(scale|bias)", [1]),
        ("hidden1_norm/scale", []),
        ("norm", [1, 2, 3]),
        ("hidden[13]", [1, 3]),
    ):
        net.train()
        transfer.freeze(pattern).freeze_statistics(net)
        still = [k for k in (1, 2, 3) if getattr(net, f"hidden{k}_norm").use_running_average]
        assert still == frozen


def test_frozen_batch_normalisation_normalises_as_in_evaluation():
    net = training.fit(
        model(batch_norm=True), jc.adam(1e-2), train=TRAIN, valid=VALID, epochs=2, progress=False
    ).model
    still = training.fit(
        net,
        jc.sgd(0.0),
        train=TRAIN,
        valid=VALID,
        epochs=1,
        trainable=transfer.freeze("hidden"),
        progress=False,
    )
    expected = training.evaluate(net, *TRAIN)["loss"]
    assert still.history.train_loss[0] == pytest.approx(expected, rel=1e-5)


def test_caching_under_batch_normalisation_trains_as_without():
    net = training.fit(
        model(batch_norm=True), jc.adam(1e-2), train=TRAIN, valid=VALID, epochs=2, progress=False
    ).model
    settings = {"epochs": 3, "progress": False, "batch_size": 20}
    freeze = transfer.freeze("hidden")
    tx = jc.adam(1e-2)
    whole = training.fit(net, tx, train=TRAIN, valid=VALID, trainable=freeze, **settings)
    cached = (transfer.cache_features(net, 3, part) for part in (TRAIN, VALID))
    train, valid = cached
    head = training.fit(net.logits, tx, train=train, valid=valid, **settings)
    chex.assert_trees_all_close(
        nnx.to_pure_dict(nnx.state(whole.model.logits)),
        nnx.to_pure_dict(nnx.state(head.model)),
        rtol=1e-4,
        atol=1e-6,
    )


def test_freeze_selects_what_is_trained():
    trained = nnx.state(model(), transfer.freeze("hidden[12]"))
    assert sorted(trained) == ["hidden3", "logits"]
    with pytest.raises(ValueError, match=r"freeze: 'hidden\[' is not a regular expression"):
        transfer.freeze("hidden[")


def test_freeze_works_with_flax_s_own_optimizer_and_gradient():
    net, wrt = model(), transfer.freeze("hidden")
    before = jax.tree.map(np.array, nnx.to_pure_dict(nnx.state(net, nnx.Param)))
    optimizer = nnx.Optimizer(net, jc.adamw(0.1, weight_decay=0.5), wrt=wrt)
    x = TRAIN.x
    grads = nnx.grad(lambda net: (net(x) ** 2).mean(), argnums=nnx.DiffState(0, wrt))(net)
    with jax.numpy_dtype_promotion("standard"):  # nnx.Optimizer counts its steps in uint32
        optimizer.update(net, grads)
    after = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    for name in ("hidden1", "hidden2", "hidden3"):
        chex.assert_trees_all_equal(before[name], after[name])
    assert not np.array_equal(before["logits"]["kernel"], after["logits"]["kernel"])
