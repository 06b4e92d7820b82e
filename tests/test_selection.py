"""Selection by path: the same names everywhere, and nothing chosen in silence."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import jaxopt_cards as jc
from jaxopt_cards.selection import path_names

PARAMS = {"hidden1": {"kernel": 1.0, "bias": 2.0}, "logits": {"kernel": 3.0, "bias": 4.0}}
PATHS = ["hidden1/bias", "hidden1/kernel"]


class LinenModel(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2, name="hidden1")(x)


class NnxModel(nnx.Module):
    def __init__(self, rngs):
        self.hidden1 = nnx.Linear(3, 2, rngs=rngs)


def test_a_parameter_has_one_name_in_linen_nnx_and_dictionaries():
    with jax.numpy_rank_promotion("allow"):
        linen_params = LinenModel().init(jax.random.key(0), jnp.ones((1, 3)))["params"]
    model = NnxModel(nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    for tree in (
        linen_params,
        model,
        state,
        nnx.to_pure_dict(state),
        {"hidden1": PARAMS["hidden1"]},
    ):
        assert path_names(tree) == PATHS


def test_a_dictionary_key_called_value_stays():
    assert path_names({"value": {"kernel": 1}, "attention": {"value": 2}}) == [
        "attention/value",
        "value/kernel",
    ]


def test_select_marks_what_matches():
    assert jc.select(PARAMS, "hidden") == {
        "hidden1": {"kernel": True, "bias": True},
        "logits": {"kernel": False, "bias": False},
    }
    assert jax.tree.leaves(jc.select(PARAMS, "kernel$")) == [False, True, False, True]


def test_a_pattern_that_matches_nothing_lists_the_paths():
    with pytest.raises(ValueError, match=r"'hidden\[23\]' matches none of .*\n  hidden1/bias\n"):
        jc.select(PARAMS, "hidden[23]")


def test_a_pattern_that_is_no_regular_expression():
    with pytest.raises(ValueError, match=r"select: 'hidden\[' is not a regular expression"):
        jc.select(PARAMS, "hidden[")


def test_parts_merge_to_the_whole():
    selected, rest = jc.partition_params(PARAMS, "kernel")
    assert jax.tree.leaves(selected) == [1.0, 3.0]
    assert jax.tree.leaves(rest) == [2.0, 4.0]
    assert jc.merge_params(selected, rest) == jc.merge_params(rest, selected) == PARAMS


def test_no_gradient_is_computed_for_the_frozen_part():
    square = jnp.eye(50)
    params = {"frozen1": square, "frozen2": square, "trained": jnp.ones((50, 2))}
    trained, frozen = jc.partition_params(params, "trained")

    def loss(params):
        hidden = jnp.ones((8, 50)) @ params["frozen1"] @ params["frozen2"]
        return jnp.sum((hidden @ params["trained"]) ** 2)

    part = lambda trained: jax.grad(lambda t: loss(jc.merge_params(t, frozen)))(trained)  # noqa: E731
    flops = [
        jax.jit(f).lower(tree).compile().cost_analysis()["flops"]
        for f, tree in ((part, trained), (jax.grad(loss), params))
    ]
    assert flops[0] < 0.5 * flops[1]
    chex.assert_trees_all_close(part(trained)["trained"], jax.grad(loss)(params)["trained"])


def test_merging_parts_that_overlap_or_differ():
    with pytest.raises(ValueError, match="merge_params: both parts have a leaf at a"):
        jc.merge_params({"a": 1}, {"a": 2})
    with pytest.raises(ValueError, match="merge_params: the parts differ in structure"):
        jc.merge_params({"a": 1}, {"b": None})


LABELS = {"hidden1": {"kernel": "a", "bias": "a"}, "logits": {"kernel": "b", "bias": "b"}}


def decayed(tx):
    params = jax.tree.map(jnp.float32, PARAMS)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = tx.update(zeros, tx.init(params), params)
    return [
        path
        for path, leaf in zip(path_names(updates), jax.tree.leaves(updates), strict=True)
        if leaf
    ]


@pytest.mark.parametrize(
    "labels", [LABELS, {"hidden1": "a", "logits": "b"}], ids=["leaves", "subtrees"]
)
def test_a_pattern_may_match_nothing_in_one_group_of_a_partition(labels):
    tx = jc.add_decayed_weights(0.1, "hidden1/kernel")
    assert decayed(jc.partition({"a": tx, "b": tx}, labels)) == ["hidden1/kernel"]
    masked = jc.masked(tx, jax.tree.map(lambda label: label == "b", labels))
    assert decayed(masked) == []
    frozen = jc.selective_transform(
        jc.max_norm(0.1, axis=(), mask="logits"),
        freeze_mask=jax.tree.map(lambda label: label == "b", labels),
    )
    assert decayed(frozen) == []


def test_a_pattern_that_matches_nothing_in_any_group_is_an_error():
    tx = jc.partition({"a": jc.add_decayed_weights(0.1, "kernle"), "b": jc.sgd(0.1)}, LABELS)
    with pytest.raises(ValueError, match=r"'kernle' matches none of the paths(\n .*){4}$"):
        tx.init(PARAMS)


@pytest.mark.parametrize("kind", [int, float, np.bool_, np.int8, jnp.bool_, jnp.float32])
def test_masks_of_zero_and_one(kind):
    mask = jax.tree.map(kind, jc.select(PARAMS, "kernel"))
    expected = ["hidden1/kernel", "logits/kernel"]
    assert decayed(jc.add_decayed_weights(0.1, mask)) == expected
    assert decayed(jc.add_decayed_weights(0.1, lambda _: mask)) == expected
