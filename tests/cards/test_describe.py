import inspect
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxopt_cards as jc
from jaxopt_cards import cards, layers, optimizers

PARAMS = {
    "hidden": {"kernel": np.ones((8, 4), np.float32), "bias": np.ones(4, np.float32)},
    "logits": {"kernel": np.ones((4, 3), np.float32), "bias": np.ones(3, np.float32)},
}
KERNELS = jc.select(PARAMS, "kernel")
HIDDEN = jc.select(PARAMS, "^hidden/")
OURS = list(optimizers.by_name().values())
THEIRS = [
    optax.adabelief,
    optax.adagrad,
    optax.adam,
    optax.adamax,
    optax.adamw,
    optax.amsgrad,
    optax.lamb,
    optax.lion,
    optax.adan,
    optax.novograd,
    optax.radam,
    optax.rmsprop,
    optax.yogi,
]


def numbers_of(description):
    found = []
    for stage in description.stages:
        found += [v for v in stage.hyperparameters.values() if isinstance(v, float)]
    return np.abs(found)


@pytest.mark.parametrize(
    "factory", OURS + THEIRS, ids=lambda f: f"{f.__module__.split('.')[0]}.{f.__name__}"
)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_the_numbers_given_to_an_optimizer_are_found_again(factory, data):
    names = [
        name
        for name, parameter in inspect.signature(factory).parameters.items()
        if type(parameter.default) is float or name == "learning_rate"
    ]
    # Where beta is 0 some equations are another function.
    drawn = {name: data.draw(st.floats(0.01, 0.9), label=name) for name in names}
    drawn |= {"threshold": 4 + drawn["threshold"]} if "threshold" in drawn else {}
    signed = {name: -x if name == "learning_rate_power" else x for name, x in drawn.items()}
    found = numbers_of(cards.describe(factory(**signed)))
    if "final_learning_rate" in drawn:  # AdaBound keeps it in units of the learning rate
        drawn["final_learning_rate"] /= drawn["learning_rate"]
    for name, value in drawn.items():
        assert np.isclose(found, value, rtol=1e-6).any(), name


WRAPPED = {
    "adam": jc.adam(0.1),
    "optax.adamw": optax.adamw(0.1, mask=KERNELS),
    "ftrl": jc.ftrl(0.1),
    "masked": jc.masked(jc.adam(0.1), KERNELS),
    "masked by a function": jc.masked(jc.adam(0.1), lambda tree: jc.select(tree, "kernel")),
    "partition": jc.partition(
        {"a": jc.adam(0.1), "b": jc.momentum(0.1)},
        jax.tree.map(lambda yes: "a" if yes else "b", KERNELS),
    ),
    "selective": jc.selective_transform(jc.adam(0.1), freeze_mask=HIDDEN),
    "injected": jc.inject_hyperparams(optax.adam)(learning_rate=0.1),
    "steps": jc.MultiSteps(jc.adam(0.1), 4),
    "finite": jc.apply_if_finite(jc.adam(0.1), 3),
    "compressed": jc.compress_state(jc.adam(0.1), min_size=16),
    "packed": jc.pack_small_leaves(jc.adam(0.1)),
    "lookahead": jc.lookahead(jc.adam(0.1)),
    "probe": jc.probe(jc.sgd(0.1)),
    "skip": jc.skip_nonfinite(jc.sgd(0.1)),
    "named": jc.named_chain(("one", jc.clip(1.0)), ("two", jc.adam(0.1))),
    "nested": jc.chain(jc.chain(jc.clip(1.0), jc.masked(jc.trace(0.9), KERNELS)), jc.adam(0.1)),
    "adafactor": optax.adafactor(0.1),
    "muon": optax.contrib.muon(0.1),
    "lbfgs": jc.lbfgs(),
    "plateau": jc.chain(jc.adam(0.1), jc.reduce_on_plateau()),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_state_bytes_are_those_of_the_arrays(name):
    params = jax.tree.map(jnp.asarray, PARAMS)
    description = cards.describe(WRAPPED[name], params)
    state = jax.tree.leaves(WRAPPED[name].init(params))
    assert description.state_bytes == sum(leaf.nbytes for leaf in state)
    assert all(len(line) <= 80 for line in str(description).splitlines())
    json.dumps(description.rows(), allow_nan=False)


def stages(description):
    return {stage.name: stage for stage in description.stages}


def test_two_inside_of_one_are_told_by_their_arguments():
    tx = optax.contrib.sam(optax.adam(0.1), optax.contrib.normalize())
    found = [(stage.depth, stage.label, stage.name) for stage in cards.describe(tx).stages]
    inside = [
        ("optimizer", "scale_by_adam"),
        ("optimizer", "scale"),
        ("adv_optimizer", "normalize"),
    ]
    assert found == [(0, "", "sam"), *((1, *each) for each in inside)]


def test_a_mask_is_told_leaf_by_leaf():
    tx = jc.chain(jc.scale_by_adam(), jc.masked(jc.add_decayed_weights(1e-4), KERNELS))
    description = cards.describe(tx, PARAMS)
    assert stages(description)["scale_by_adam"].leaves == description.leaves
    decayed = stages(description)["add_decayed_weights"].leaves
    assert decayed == ["hidden/kernel", "logits/kernel"]
    text = str(description)
    assert text.count("leaves out: hidden/bias, logits/bias") == 1  # not again of what is inside


@pytest.mark.parametrize(
    "tx",
    [
        jc.chain(jc.adam(0.1), jc.freeze(HIDDEN)),
        jc.selective_transform(jc.adam(0.1), freeze_mask=HIDDEN),
    ],
)
def test_frozen_leaves_are_named(tx):
    description = cards.describe(tx, PARAMS)
    assert stages(description)["set_to_zero"].leaves == ["hidden/bias", "hidden/kernel"]
    assert "sets to zero: hidden/bias, hidden/kernel" in str(description)


def test_each_label_of_a_partition_has_its_own_leaves():
    rows = cards.describe(WRAPPED["partition"], PARAMS).rows()
    leaves = {(row["label"], row["name"]): row["leaves"] for row in rows}
    assert leaves["a", "scale_by_adam"] == ["hidden/kernel", "logits/kernel"]
    assert leaves["b", "trace"] == ["hidden/bias", "logits/bias"]


def test_schedules_are_named_with_their_arguments():
    rate = jc.schedules.exponential_decay(0.1, 1000, 0.5)
    for tx in (jc.adam(rate), optax.adam(rate), jc.inject_hyperparams(jc.adam)(rate)):
        (found,) = [
            stage.hyperparameters["learning_rate"]
            for stage in cards.describe(tx).stages
            if "learning_rate" in stage.hyperparameters
        ]
        assert found.name == "exponential_decay"
        assert found.arguments["init_value"] == 0.1
        assert found.arguments["transition_steps"] == 1000
    assert "exponential_decay(" in str(cards.describe(jc.adam(rate)))


def test_what_left_no_trace_is_said_so():
    def mine(hidden_number):
        factor = 2 * hidden_number

        def update(updates, state, params=None):
            return jax.tree.map(lambda u: factor * u, updates), state

        return optax.GradientTransformation(lambda params: (), update)

    # Found in its module as users' functions are.
    globals()["mine"] = mine
    mine.__qualname__ = "mine"
    update = mine(3.0).update
    update.__qualname__ = "mine.<locals>.update"
    stage = cards.describe(optax.GradientTransformation(lambda params: (), update)).stages[0]
    assert stage.not_found == ["hidden_number"]
    assert stage.hyperparameters == {"factor": 6.0}


def test_without_parameters_nothing_is_said_of_state_and_leaves():
    description = cards.describe(jc.adam(0.1))
    assert description.state_bytes is None
    assert {(stage.state_bytes, stage.leaves) for stage in description.stages} == {(None, None)}


def test_it_describes_the_parameters_of_a_flax_model():
    nnx = pytest.importorskip("flax.nnx")
    model = layers.MLP(4, 2, (3,), rngs=nnx.Rngs(0))
    description = cards.describe(jc.adam(0.1), nnx.state(model, nnx.Param))
    assert description.leaves == ["hidden1/bias", "hidden1/kernel", "logits/bias", "logits/kernel"]
    assert description.state_bytes == 4 + 2 * 4 * (4 * 3 + 3 + 3 * 2 + 2)


def test_hyperparameters_that_are_arrays_are_shown_by_shape_and_traced_ones_as_such():
    seen = []

    def build(rate):
        seen.append(str(cards.describe(jc.chain(jc.trace(rate), jc.sgd(0.1)))))
        return rate

    jax.eval_shape(build, jnp.zeros(()))
    assert "decay=traced float32[]" in seen[0]
    tx = jc.add_l2_sp({"w": jnp.zeros((3, 2))})
    assert "float32[3,2]" in str(cards.describe(tx))


def test_html_has_a_row_a_stage_and_escapes():
    html = cards.describe(jc.named_chain(("<b>", jc.clip(1.0))), PARAMS)._repr_html_()
    assert html.count("<tr>") == 2
    assert "&lt;b&gt;" in html


def test_what_is_no_transformation_is_refused():
    with pytest.raises(ValueError, match="describe: tx must have init and update, got float"):
        cards.describe(0.1)


def sign_momentum(decay):
    def init(param):
        return jnp.zeros_like(param)

    def update(grad, mean, param, step):
        mean = decay * mean + grad
        return jnp.sign(mean), mean

    return jc.leafwise(init, update)


def test_an_equation_of_the_user_is_described_by_its_maker():
    text = str(cards.describe(jc.chain(sign_momentum(0.9), jc.scale_by_learning_rate(0.1))))
    assert re.search(r"sign_momentum +decay=0.9\n", text)
    assert "layout" not in text
