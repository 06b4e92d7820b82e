"""The upper end of a network: new heads, fewer and more hidden layers."""

import chex
import jax
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from tests.training.blobs import TRAIN, VALID

UNITS = (8, 7, 5, 6)
LOOKS = {
    "plain": {},
    "normalised": {"batch_norm": True, "batch_norm_momentum": 0.9, "activation": "prelu"},
    "noisy": {"dropout_rate": 0.3, "input_dropout_rate": 0.1, "activation": "rrelu"},
    "dropped": {"batch_norm": True, "dropout_rate": 0.5, "drop_connect_rate": 0.2},
}
looks = pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)


def trained(look, units=UNITS):
    """A network whose arrays are all other than a new one's: weights, statistics, slopes."""
    net = layers.MLP(6, 3, units, rngs=nnx.Rngs(0), **look)
    graph, params, stats, rest = nnx.split(net, nnx.Param, nnx.BatchStat, ...)
    rng = np.random.default_rng(0)
    moved = jax.tree.map(
        lambda leaf: leaf + rng.uniform(0.1, 0.5, leaf.shape).astype("f4"), (params, stats)
    )
    return nnx.merge(graph, *moved, rest)


def arrays_of(net):
    """Everything but the random streams, layer by layer."""
    return nnx.to_pure_dict(nnx.state(net, nnx.Not(nnx.RngState)))


def by_hand(net, x, upto):
    """Hidden layers in evaluation, in NumPy."""
    values = jax.tree.map(lambda leaf: np.asarray(leaf, float), arrays_of(net))
    for index in range(1, upto + 1):
        layer = values[f"hidden{index}"]
        x = x @ layer["kernel"] + layer.get("bias", 0)
        if norm := values.get(f"hidden{index}_norm"):
            x = (x - norm["mean"]) / np.sqrt(norm["var"] + 1e-5) * norm["scale"] + norm["bias"]
        negative = np.expm1(np.minimum(x, 0))
        if net.activation is layers.PReLU:
            negative = values[f"hidden{index}_activation"]["negative_slope"] * x
        if net.activation is layers.RReLU:
            negative = (1 / 8 + 1 / 3) / 2 * x
        x = np.where(x >= 0, x, negative)
    return x


def assert_one_mode(net):
    modes = {
        getattr(module, switch)
        for _, module in nnx.iter_modules(net)
        for switch in ("deterministic", "use_running_average")
        if hasattr(module, switch)
    }
    assert modes <= {False}


@looks
def test_a_new_head_leaves_the_rest(look):
    old = trained(look)
    before = jax.tree.map(np.array, arrays_of(old))
    new = transfer.replace_head(old, 7, rngs=nnx.Rngs(9))
    chex.assert_trees_all_equal(arrays_of(old), before)
    after = arrays_of(new)
    assert after["logits"]["kernel"].shape == (6, 7)
    np.testing.assert_array_equal(after["logits"]["bias"], np.zeros(7))
    del before["logits"], after["logits"]
    chex.assert_trees_all_equal(before, after)
    assert new.eval() is None
    features = by_hand(new, VALID.x, 4)
    np.testing.assert_allclose(new.features(VALID.x), features, rtol=1e-4, atol=1e-5)
    expected = features @ np.asarray(new.logits.kernel[...])
    np.testing.assert_allclose(new(VALID.x), expected, rtol=1e-4, atol=1e-5)


@looks
def test_a_new_head_is_trained_alone_on_frozen_layers(look):
    new = transfer.replace_head(trained(look), 3, rngs=nnx.Rngs(9))
    result = training.fit(
        new,
        jc.adamw(0.1, weight_decay=0.1),
        train=TRAIN,
        valid=VALID,
        epochs=2,
        progress=False,
        trainable=transfer.freeze("hidden"),
    )
    before, after = arrays_of(new), arrays_of(result.model)
    assert not np.array_equal(before.pop("logits")["kernel"], after.pop("logits")["kernel"])
    chex.assert_trees_all_equal(before, after)


def test_the_head_of_another_network_is_known_by_name():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.body, self.top = (nnx.Linear(6, width, rngs=rngs) for width in (6, 3))

        def __call__(self, x):
            return self.top(self.body(x))

    new = transfer.replace_head(Net(nnx.Rngs(0)), 7, rngs=nnx.Rngs(1), name="top")
    assert new(VALID.x).shape == (len(VALID.x), 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "top"}, r"name must be a dense output layer, one of \['logits'\], got 'top'"),
        ({"name": "hidden1"}, r"name must be .* one of \['logits'\], got 'hidden1'"),
        ({"name": ["logits"]}, r"name must be a dense output layer"),
        ({"out_features": 0}, "out_features must be a whole number >= 1"),
        ({"rngs": 0}, "rngs must be an nnx.Rngs, got 0"),
        ({"model": 3}, "model must be an nnx.Module, an instance, got int"),
        ({"model": nnx.Linear}, "model must be an nnx.Module, an instance, got Linear"),
        ({"kernel_init": 3}, "kernel_init must be"),
    ],
)
def test_bad_heads_are_refused(arguments, message):
    given = {"model": trained({}), "out_features": 7, "rngs": nnx.Rngs(0)}
    with pytest.raises(ValueError, match=f"^replace_head: {message}"):
        transfer.replace_head(**given | arguments)


@looks
@pytest.mark.parametrize("upto", range(5))
def test_dropping_keeps_the_lower_layers(look, upto):
    old = trained(look)
    old.eval()
    before = jax.tree.map(np.array, arrays_of(old))
    new = transfer.drop_layers(old, upto, 7, rngs=nnx.Rngs(9))
    chex.assert_trees_all_equal(arrays_of(old), before)
    assert_one_mode(new)
    after = arrays_of(new)
    head = nnx.Linear(
        [6, *UNITS][upto], 7, kernel_init=nnx.initializers.he_normal(), rngs=nnx.Rngs(9)
    )
    chex.assert_trees_all_equal(after.pop("logits"), arrays_of(head))
    del before["logits"]
    dropped = tuple(f"hidden{index}" for index in range(upto + 1, 5))
    kept = {name: layer for name, layer in before.items() if not name.startswith(dropped or ("-",))}
    chex.assert_trees_all_equal(after, kept)
    new.eval()
    expected = by_hand(old, VALID.x, upto) @ np.asarray(new.logits.kernel[...])
    np.testing.assert_allclose(new(VALID.x), expected, rtol=1e-4, atol=1e-5)


@looks
@pytest.mark.parametrize("added", [(3,), (9, 4)])
def test_inserting_adds_what_a_new_network_has(look, added):
    old = trained(look)
    old.eval()
    new = transfer.insert_layers(old, added, rngs=nnx.Rngs(9))
    assert_one_mode(new)
    assert new.depth == 4 + len(added)
    before, after = arrays_of(old), arrays_of(new)
    above = layers.MLP(6, 3, added, rngs=nnx.Rngs(9), **look)
    for index in range(1, len(added) + 1):
        for part in ("", "_norm", "_activation"):
            name = f"hidden{index}{part}"
            fresh = arrays_of(above).get(name)
            chex.assert_trees_all_equal(after.pop(f"hidden{4 + index}{part}", None), fresh)
    chex.assert_trees_all_equal(after.pop("logits"), arrays_of(above)["logits"])
    del before["logits"]
    chex.assert_trees_all_equal(before, after)
    new.eval()
    chex.assert_trees_all_equal(new.features(VALID.x, 4), old.features(VALID.x))
    features = by_hand(new, VALID.x, new.depth)
    np.testing.assert_allclose(new.features(VALID.x), features, rtol=1e-4, atol=1e-5)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_is_cut_and_put_on_is_a_network_as_made_at_once(data):
    widths = st.lists(st.integers(1, 6), max_size=4)
    look = data.draw(st.sampled_from(list(LOOKS.values())))
    units, added = data.draw(widths.filter(len)), data.draw(widths.filter(len))
    upto = data.draw(st.integers(1, len(units)))
    classes = data.draw(st.integers(1, 5))

    def put_together():
        lower = transfer.drop_layers(trained(look, units), upto, rngs=nnx.Rngs(1))
        return transfer.insert_layers(lower, added, classes, rngs=nnx.Rngs(1))

    def made_at_once():
        return layers.MLP(6, classes, [*units[:upto], *added], rngs=nnx.Rngs(2), **look)

    new, made = nnx.eval_shape(put_together), nnx.eval_shape(made_at_once)
    # One graph: the same program, and a card of the zoo can build it.
    assert nnx.graphdef(new) == nnx.graphdef(made)
    chex.assert_trees_all_equal_shapes_and_dtypes(arrays_of(new), arrays_of(made))


@looks
def test_the_zoo_caches_and_frozen_layers_take_what_comes_out(look, tmp_path):
    lower = transfer.drop_layers(trained(look), 2, rngs=nnx.Rngs(1))
    new = transfer.insert_layers(lower, (5,), rngs=nnx.Rngs(1))
    zoo = transfer.Zoo(tmp_path)
    zoo.store("new", new, data="blobs", accuracy=0.5)
    again = zoo.load("new")
    chex.assert_trees_all_equal(arrays_of(again), arrays_of(new))
    cached = transfer.cache_features(new, 2, VALID)
    np.testing.assert_allclose(cached.x, by_hand(new, VALID.x, 2), rtol=1e-4, atol=1e-5)
    result = training.fit(
        new,
        jc.adam(0.01),
        train=TRAIN,
        valid=VALID,
        epochs=2,
        progress=False,
        trainable=transfer.freeze("hidden[12]"),
    )
    before, after = arrays_of(new), arrays_of(result.model)
    for name in before:
        is_new = name.startswith(("hidden3", "logits"))
        arrays = zip(jax.tree.leaves(before[name]), jax.tree.leaves(after[name]), strict=True)
        assert all(np.array_equal(one, other) != is_new for one, other in arrays), name


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda net, rngs: transfer.drop_layers(net.logits, 1, rngs=rngs), "model must be a layer"),
        (lambda net, rngs: transfer.drop_layers(net, 5, rngs=rngs), "upto must be at most 4"),
        (lambda net, rngs: transfer.drop_layers(net, -1, rngs=rngs), "upto must be a whole number"),
        (lambda net, rngs: transfer.drop_layers(net, 1.0, rngs=rngs), "upto must be a whole"),
        (lambda net, rngs: transfer.drop_layers(net, 1, 0, rngs=rngs), "out_features must be a"),
        (lambda net, rngs: transfer.drop_layers(net, 1, rngs=0), "rngs must be an nnx.Rngs, got 0"),
        (lambda net, rngs: transfer.insert_layers("net", (1,), rngs=rngs), "model must be a layer"),
        (lambda net, rngs: transfer.insert_layers(net, (), rngs=rngs), r"units must .*, got \(\)"),
        (lambda net, rngs: transfer.insert_layers(net, 5, rngs=rngs), "units must be a list"),
        (lambda net, rngs: transfer.insert_layers(net, "5", rngs=rngs), "units must be a list"),
        (lambda net, rngs: transfer.insert_layers(net, (5, 0), rngs=rngs), "each of units must"),
        (lambda net, rngs: transfer.insert_layers(net, (5,), 0, rngs=rngs), "out_features must be"),
        (lambda net, rngs: transfer.insert_layers(net, (5,), rngs=None), "rngs must be an nnx"),
        (lambda net, rngs: transfer.drop_layers(net, 1, rngs=rngs, kernel_init=3), "kernel_init m"),
    ],
)
def test_bad_cuts_are_refused(call, message):
    with pytest.raises(ValueError, match=rf"^(drop|insert)_layers: {message}"):
        call(trained({}), nnx.Rngs(0))
