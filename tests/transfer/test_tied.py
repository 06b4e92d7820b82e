"""A parameter in several places of a model is one, whatever is done with the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from jaxopt_cards.core.paths import shared, variable_names

X = np.eye(4, dtype="float32")[np.arange(24) % 4]
Y = np.arange(24) % 4


class SameModule(nnx.Module):
    """One layer under two attributes."""

    first, second, count = "a/kernel", "b/kernel", 6

    def __init__(self, seed=0):
        rngs = nnx.Rngs(seed)
        self.a = nnx.Linear(4, 4, rngs=rngs)
        self.b = self.a
        self.norm = nnx.BatchNorm(4, use_bias=False, rngs=rngs)
        self.top = nnx.Linear(4, 4, use_bias=False, rngs=rngs)

    def __call__(self, x):
        return self.top(self.norm(self.b(jnp.tanh(self.a(x)))))

    def features(self, x, upto):
        return self.a(x)


class SameParameter(SameModule):
    """One array in two layers, each with its own bias."""

    count = 7

    def __init__(self, seed=0):
        super().__init__(seed)
        self.b = nnx.Linear(4, 4, rngs=nnx.Rngs(seed + 1))
        self.b.kernel = self.a.kernel


class Embedding(SameModule):
    """An embedding that is the output layer, too, in a list."""

    first, second, count = "a/embedding", "b/0/embedding", 5

    def __init__(self, seed=0):
        super().__init__(seed)
        self.a = nnx.Embed(4, 4, rngs=nnx.Rngs(seed))
        self.b = nnx.List([self.a])

    def __call__(self, x):
        return self.b[0].attend(self.top(self.norm(jnp.tanh(self.a(x.argmax(-1))))))

    def features(self, x, upto):
        return self.a(x.argmax(-1))


KINDS = pytest.mark.parametrize("kind", [SameModule, SameParameter, Embedding])


def parameter(model, path):
    """The variable at a path."""
    for key in path.split("/"):
        model = model[int(key)] if key.isdecimal() else getattr(model, key)
    return model


def check_tied(model, kind):
    assert parameter(model, kind.first) is parameter(model, kind.second)
    assert len(jax.tree.leaves(nnx.state(model))) == kind.count


@KINDS
def test_restore_keeps_what_is_shared(kind):
    model, old = kind(0), kind(0)
    filled, report = transfer.restore(model, kind(1))
    check_tied(filled, kind)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(filled), nnx.state(kind(1)))
    jax.tree.map(np.testing.assert_array_equal, nnx.state(model), nnx.state(old))
    assert report.taken[kind.first] == kind.first
    assert report.taken[kind.second] == kind.second
    assert not report.unused


@KINDS
@pytest.mark.parametrize("place", ["first", "second"])
def test_a_pattern_of_either_place_restores_the_parameter(kind, place):
    path = getattr(kind, place)
    filled, report = transfer.restore(kind(0), kind(1), f"^{path}$")
    check_tied(filled, kind)
    assert list(report.taken) == [kind.first, kind.second]
    np.testing.assert_array_equal(parameter(filled, path)[...], parameter(kind(1), path)[...])


@KINDS
@pytest.mark.parametrize("place", ["first", "second"])
def test_what_was_saved_under_one_name_fills_both(kind, place, tmp_path):
    path, array = getattr(kind, place), np.full((4, 4), 3, "float32")
    save_file({path.replace("/", "."): array}, tmp_path / "net.safetensors")
    filled, report = transfer.restore(kind(), tmp_path / "net.safetensors")
    check_tied(filled, kind)
    np.testing.assert_array_equal(parameter(filled, kind.second)[...], array)
    assert report.taken == {kind.first: path, kind.second: path}
    other = kind.second if place == "first" else kind.first
    assert f"taken    {other} from {path}" in str(report)


@KINDS
def test_what_was_saved_twice_must_be_the_same(kind):
    def nested(path, array):
        for key in reversed(path.split("/")):
            array = {key: array}
        return array

    array = np.full((4, 4), np.nan, "float32")
    saved = nested(kind.first, array) | nested(kind.second, array.copy())
    check_tied(transfer.restore(kind(), saved)[0], kind)
    saved |= nested(kind.second, np.ones((4, 4), "float32"))
    message = f"restore: {kind.first} and {kind.second} are one parameter of the model, but"
    with pytest.raises(ValueError, match=message):
        transfer.restore(kind(), saved)
    filled, _ = transfer.restore(kind(), saved, rename={f"^{kind.second}$": kind.first})
    assert np.isnan(parameter(filled, kind.second)[...]).all()


def test_a_place_that_does_not_fit_leaves_the_one_that_does():
    saved = {"a": {"kernel": np.ones((2, 2), "float32")}, "b": {"kernel": np.ones((4, 4), "f4")}}
    filled, report = transfer.restore(SameModule(), saved, "kernel")
    check_tied(filled, SameModule)
    assert report.taken == {"b/kernel": "b/kernel"}
    assert list(report.refused) == ["a/kernel"]


def test_modules_in_a_dictionary():
    model = SameModule()
    filled, _ = transfer.restore({"net": model, "again": [model.a]}, {"net": SameModule(1)})
    check_tied(filled["net"], SameModule)
    assert filled["again"][0] is filled["net"].a


def test_arrays_of_dictionaries_are_each_their_own():
    """JAX does not keep that two leaves are one object."""
    array = jnp.ones(2)
    filled, report = transfer.restore({"a": array, "b": array}, {"a": jnp.zeros(2)})
    assert (filled["a"][0], filled["b"][0]) == (0, 1)
    assert list(report.skipped) == ["b"]
    assert float(layers.l2(1.0, "")({"a": array, "b": array})) == 4
    two_names = {"a/b": jnp.ones(2), "a": {"b": jnp.zeros(2)}}
    assert [names for _, names in shared(two_names)] == [("a/b",), ("a/b",)]
    assert float(layers.l2(1.0, "")(two_names)) == 2


@KINDS
@pytest.mark.parametrize("place", ["first", "second"])
def test_freezing_one_place_freezes_the_parameter(kind, place):
    model = kind()
    path = getattr(kind, place)
    fit = {"train": (X, Y), "valid": (X, Y), "epochs": 2, "batch_size": 8, "progress": False}
    last = training.fit(model, jc.sgd(0.5), trainable=transfer.freeze(f"^{path}$"), **fit).last
    check_tied(last, kind)
    np.testing.assert_array_equal(parameter(last, path)[...], parameter(model, path)[...])
    assert (last.top.kernel[...] != model.top.kernel[...]).any()
    schedule = transfer.unfreeze_schedule({0: "top", 1: f"^{path}$"})
    result = transfer.fine_tune(
        model, jc.sgd, schedule=schedule, order=["a|b", "top"], lr_mult=1.0, **fit
    )
    check_tied(result.last, kind)
    assert (parameter(result.last, path)[...] != parameter(model, path)[...]).any()


def test_statistics_of_a_normalisation_are_frozen_by_either_place():
    model = SameModule()
    model.again = model.norm
    fit = {"train": (X, Y), "valid": (X, Y), "epochs": 1, "batch_size": 8, "progress": False}
    for pattern in ("^again/", "^norm/"):
        last = training.fit(model, jc.sgd(0.5), trainable=transfer.freeze(pattern), **fit).last
        np.testing.assert_array_equal(last.norm.mean[...], model.norm.mean[...])


@KINDS
def test_training_keeps_what_is_shared(kind):
    fit = {"train": (X, Y), "valid": (X, Y), "epochs": 1, "batch_size": 8}
    check_tied(training.fit(kind(), jc.sgd(0.5), progress=False, **fit).model, kind)
    many = training.fit_many([kind(0), kind(1)], jc.sgd(0.5), **fit)
    for result in many:
        check_tied(result.model, kind)
    check_tied(transfer.replace_head(kind(), 3, name="top", rngs=nnx.Rngs(0)), kind)
    features, _ = transfer.cache_features(kind(), 1, (X, Y))
    np.testing.assert_allclose(features, kind().features(X, 1), rtol=1e-6)


def test_a_head_of_two_names_is_replaced_under_both():
    model = SameModule()
    new = transfer.replace_head(model, 4, name="b", rngs=nnx.Rngs(3))
    check_tied(new, SameModule)
    assert (new.a.kernel[...] != model.a.kernel[...]).any()


@KINDS
def test_a_zoo_keeps_what_is_shared(kind, tmp_path):
    zoo = transfer.Zoo(tmp_path)
    zoo.store("net", kind(1), data="four", accuracy=0.5)
    loaded = zoo.load("net", kind(0))
    check_tied(loaded, kind)
    jax.tree.map(np.testing.assert_array_equal, nnx.state(loaded), nnx.state(kind(1)))


@KINDS
@pytest.mark.parametrize("place", ["first", "second", None])
def test_a_penalty_counts_a_parameter_once(kind, place):
    pattern = f"^{getattr(kind, place)}$" if place else r"^[ab]/.*(kernel|embedding)$"
    model, penalty = kind(), layers.l2(0.5, pattern)
    array = parameter(model, kind.first)[...]
    np.testing.assert_allclose(penalty(model), 0.5 * np.sum(np.square(array)), rtol=1e-6)
    gradient = nnx.grad(penalty)(model)
    found = dict(zip(jc.selection.path_names(gradient), jax.tree.leaves(gradient), strict=True))
    np.testing.assert_allclose(found[kind.first], array, rtol=1e-6)


@KINDS
def test_a_selection_marks_all_places(kind):
    model = kind()
    mask = jc.select(model, f"^{kind.second}$")
    marked = [
        names for (_, names), on in zip(shared(model), jax.tree.leaves(mask), strict=True) if on
    ]
    assert marked == [(kind.first, kind.second)] * 2
    message = r"partition_params: \S+ and \S+ are one parameter, which two trees cannot share"
    with pytest.raises(ValueError, match=message):
        jc.partition_params(model, "top")
    selected, _ = jc.partition_params(nnx.state(model), "top")
    assert len(jax.tree.leaves(selected)) == 1


def test_modules_that_refer_to_the_ones_around_them():
    model = SameModule()
    model.a.around = nnx.data(model)
    assert variable_names(model)["b/kernel"] == ("a/kernel", "b/kernel")
    assert "a/around/top/kernel" not in variable_names(model)


def tied_mlp():
    model = layers.MLP(4, 4, units=(4, 4, 4), batch_norm=True, rngs=nnx.Rngs(0))
    model.hidden2, model.hidden2_norm = model.hidden1, model.hidden1_norm
    return model


def test_reusing_layers_keeps_what_they_share():
    model = tied_mlp()
    data = {"train": (X, Y), "valid": (X, Y), "batch_size": 8, "epochs": 1}
    for freeze in (True, False):
        result = transfer.reuse_layers(model, jc.sgd(0.1), 4, depths=[2, 3], freeze=freeze, **data)
        for runs in result.results.values():
            trained = runs[0].model
            assert trained.hidden1.kernel is trained.hidden2.kernel
            assert trained.hidden1_norm.scale is trained.hidden2_norm.scale
            is_same = (trained.hidden1.kernel[...] == model.hidden1.kernel[...]).all()
            assert bool(is_same) == freeze
