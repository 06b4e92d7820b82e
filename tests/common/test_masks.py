"""Every function with an argument `mask` takes it in the same three forms, with equal results."""

import inspect

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training, transfer
from jaxopt_cards.core.declaration import declaration_of
from jaxopt_cards.training.frozen import filter_of
from tests.common.transformations import TRANSFORMATIONS

PARAMS = {
    "hidden1": {"kernel": jnp.full((3, 2), 0.7), "bias": jnp.full(2, 0.4)},
    "logits": {"kernel": jnp.full((2, 2), 0.3), "bias": jnp.full(2, 0.2)},
}
TREE = {
    "hidden1": {"kernel": True, "bias": False},
    "logits": {"kernel": True, "bias": False},
}
FORMS = {
    "tree": TREE,
    "function": lambda params: jax.tree.map(lambda leaf: leaf.ndim == 2, params),
    "select": lambda params: jc.select(params, "kernel"),
}


def model():
    net = layers.MLP(3, 2, units=(2,), rngs=nnx.Rngs(0))
    nnx.update(net, PARAMS)
    return net


def updated(make):
    """How to call a transformation: the update of a gradient."""

    def call(mask):
        tx = make(mask)
        state = tx.init(PARAMS)
        return tx.update(jax.tree.map(jnp.ones_like, PARAMS), state, PARAMS)[0]

    return call


def trained(mask):
    """The paths of what is left to train."""
    net = model()
    return nnx.to_pure_dict(nnx.state(net, transfer.freeze(mask).of(net)))


ZEROS = jax.tree.map(jnp.zeros_like, PARAMS)


def functions_with(argument):
    """Our public functions that have this argument."""
    found = {}
    for module in (jc, data, layers, training, transfer):
        for name in module.__all__:
            thing = getattr(module, name)
            if declaration_of(thing) and argument in inspect.signature(thing).parameters:
                found[name] = thing
    return found


def of_the_table():
    """Transformations and optimizers, as their rows in the tables of laws make them."""
    rows = {row.name: row.make for row in TRANSFORMATIONS}
    return {
        name: updated(lambda mask, make=rows[name]: make(mask=mask))
        for name in functions_with("mask").keys() & rows
    }


CALLS = of_the_table() | {
    "elastic_net": lambda mask: layers.elastic_net(0.1, 0.2, mask)(PARAMS),
    "freeze": trained,
    "l1": lambda mask: layers.l1(0.1, mask)(PARAMS),
    "l2": lambda mask: layers.l2(0.1, mask)(PARAMS),
    "magnitude_prune": updated(lambda mask: jc.magnitude_prune(1.5, mask=mask)),
    "max_norm": updated(lambda mask: jc.max_norm(0.1, axis=(), mask=mask)),
    "partition_params": lambda mask: jc.partition_params(PARAMS, mask),
    "restore": lambda mask: transfer.restore(PARAMS, ZEROS, mask)[0],
    "select": lambda mask: jc.select(PARAMS, mask),
}


def test_the_table_has_every_function_with_a_mask():
    assert functions_with("mask").keys() == CALLS.keys()
    assert not functions_with("pattern")


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_mask_matters(name):
    with pytest.raises(AssertionError):
        chex.assert_trees_all_equal(CALLS[name]("kernel"), CALLS[name]("bias"))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(CALLS))
def test_all_forms_of_a_mask_give_the_same(name, form):
    chex.assert_trees_all_equal(CALLS[name](FORMS[form]), CALLS[name]("kernel"))


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_bool_may_stand_for_a_subtree(name):
    of_subtrees = CALLS[name]({"hidden1": True, "logits": False})
    chex.assert_trees_all_equal(of_subtrees, CALLS[name]("hidden1"))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("(", "is not a regular expression"),
        ({"hidden1": 2.0, "logits": True}, "mask must be a regular expression, a tree of bools"),
        ({"hidden1": "kernel", "logits": True}, "mask must be a regular expression"),
        ({"conv": True}, "mask must have the structure of the parameters"),
    ],
)
@pytest.mark.parametrize("name", sorted(CALLS))
def test_masks_that_do_not_fit_are_refused_alike(name, mask, message):
    with pytest.raises(ValueError, match=message):
        CALLS[name](mask)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_the_old_name_is_told(name):
    function = functions_with("mask")[name]
    with pytest.raises(
        TypeError, match=f"^{name}: pattern must be given as mask, got 'kernel'$"
    ) as caught:
        function(pattern="kernel")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_is_trained_may_be_said_by_a_mask(form):
    net = model()
    by_mask, by_pattern = filter_of(form, net), filter_of("kernel", net)
    kernels = [("hidden1", "kernel"), ("logits", "kernel")]
    for chosen in (by_mask, by_pattern):
        assert list(nnx.to_flat_state(nnx.state(net, chosen)).paths) == kernels
    # Programs are compiled for such a filter: equal masks share one.
    assert hash(by_mask) == hash(filter_of(FORMS["tree"], net))
    assert by_mask == filter_of(FORMS["tree"], net)


@pytest.mark.parametrize("kind", [nnx.Param, nnx.Not(nnx.Param), (nnx.Param,), True, ...])
def test_filters_of_nnx_stay_what_they_are(kind):
    assert filter_of(kind, model()) is kind


def test_a_function_of_path_and_variable_is_a_filter_of_nnx():
    is_kernel = lambda path, variable: path[-1] == "kernel"  # noqa: E731
    assert filter_of(is_kernel, model()) is is_kernel


def test_fit_freezes_by_a_tree_as_by_a_pattern():
    examples = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
    settings = {"train": examples, "valid": examples, "batch_size": 2, "epochs": 2}
    of_tree, of_pattern, of_function = (
        training.fit(
            model(), jc.sgd(0.1), trainable=transfer.freeze(mask), progress=False, **settings
        ).last
        for mask in (TREE, "kernel", FORMS["function"])
    )
    for other in (of_tree, of_function):
        chex.assert_trees_all_equal(nnx.state(other), nnx.state(of_pattern))


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("(", "is not a regular expression"),
        (3.0, "trainable must be a regular expression"),
        ({"conv": True}, "trainable must have the structure of the parameters"),
        (lambda params: 3.0, "trainable must be a regular expression"),
    ],
)
def test_errors_name_trainable_where_that_is_the_argument(mask, message):
    with pytest.raises(ValueError, match=message):
        filter_of(mask, model())


def test_a_mask_without_a_model_says_what_to_do():
    with pytest.raises(ValueError, match=r"use freeze\(mask\).of\(model\)"):
        nnx.state(model(), transfer.freeze(TREE))
