"""Every error begins with the name of the function that was called."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import cards, data, layers, schedules, training, transfer
from jaxopt_cards.core.errors import ArgumentError, NamedError
from tests.test_ranges import FILLED, NUMBERS

MODULES = (jc, schedules, data, layers, training, transfer, cards)
PUBLIC = {
    f"{module.__name__.rpartition('.')[2]}.{name}": getattr(module, name)
    for module in MODULES
    for name in module.__all__
    if getattr(getattr(module, name), "__module__", "").startswith("jaxopt_cards.")
    and inspect.isfunction(getattr(module, name))
}
MADE = {"MLP": layers.MLP, "Dropout": layers.Dropout, "Zoo": transfer.Zoo}
MADE |= {"DNNClassifier": training.DNNClassifier, "Checkpointer": training.Checkpointer}
WRAPPERS = {"lookahead", "probe", "skip_nonfinite", "layerwise_decay", "compress_state"}
WRAPPERS |= {"pack_small_leaves"}
PARAMS = {"hidden1": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}}
REQUIRED = FILLED | {"inner": jc.adam(0.1), "fast": jc.adam(0.1), "pretrained": PARAMS}
COUNTERS = {"hidden1": {"kernel": jnp.ones((2, 3), int), "bias": jnp.ones(3, int)}}


def name_of(place):
    return place.rpartition(".")[2]


def required(function):
    parameters = inspect.signature(function).parameters.values()
    return {p.name: REQUIRED[p.name] for p in parameters if p.default is p.empty}


def rules():
    """Each function that returns a transformation, with what it needs."""
    for place, function in PUBLIC.items():
        returned = str(inspect.signature(function).return_annotation)
        if "GradientTransformation" in returned and name_of(place) != "leafwise":
            more = {"threshold": 1.0} if name_of(place) == "magnitude_prune" else {}
            yield pytest.param(name_of(place), required(function) | more, id=name_of(place))


@pytest.mark.parametrize("place", [*PUBLIC, *MADE])
def test_an_argument_that_does_not_exist(place):
    function = PUBLIC.get(place) or MADE[place]
    with pytest.raises(TypeError) as caught:
        function(no_such_argument=1)
    assert isinstance(caught.value, ArgumentError)
    assert str(caught.value).startswith(f"{name_of(place)}: ")


def test_an_argument_that_does_not_exist_is_told_with_those_that_do():
    takes = "adam takes learning_rate, b1, b2, eps, eps_root, mu_dtype, nesterov"
    for call, said in (
        (lambda: jc.adam(lr=0.1), "there is no argument lr, did you mean learning_rate?"),
        (lambda: jc.adam(0.1, beta1=0.5), "there is no argument beta1, did you mean b1?"),
        (lambda: jc.adam(), "missing a required argument: 'learning_rate'."),
        (
            lambda: jc.adam(0.1, 0.9, learning_rate=1),
            "multiple values for argument 'learning_rate'.",
        ),
    ):
        with pytest.raises(TypeError) as caught:
            call()
        assert str(caught.value) == f"adam: {said} {takes}"


@pytest.mark.parametrize(
    "place", [p for p in PUBLIC if p.split(".")[0] in ("jaxopt_cards", "schedules")]
)
def test_arguments_of_another_type(place):
    function, name = PUBLIC[place], name_of(place)
    if any(p.kind == p.VAR_KEYWORD for p in inspect.signature(function).parameters.values()):
        return
    for argument, parameter in inspect.signature(function).parameters.items():
        if parameter.annotation not in NUMBERS:
            continue
        with pytest.raises(NamedError) as caught:
            function(**required(function) | {argument: object()})
        assert str(caught.value).startswith(f"{name}: ")


@pytest.mark.parametrize(("name", "arguments"), list(rules()))
def test_init_and_update(name, arguments):
    tx = getattr(jc, name)(**arguments)
    names = (f"{name}: ", "adam: ") if name in WRAPPERS else f"{name}: "
    extra = optax.with_extra_args_support(tx)
    state = tx.init(PARAMS)
    kernel = {"hidden1": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(3)}}
    less = {"hidden1": {"kernel": jnp.ones((2, 3))}}
    calls = [
        lambda: tx.init(COUNTERS),
        lambda: extra.update(kernel, state, PARAMS, value=1.0),
        lambda: extra.update(less, state, PARAMS, value=1.0),
        lambda: extra.update(PARAMS, state, None),
        lambda: jax.jit(tx.update)(PARAMS, state, None),
    ]
    for said in map(refusal, calls):
        assert not said or said.startswith(names)


def refusal(call):
    """What an error of ours says; Optax's own stages do not check."""
    try:
        call()
    except NamedError as error:
        return str(error)
    except (TypeError, ValueError, AttributeError):
        return ""
    return ""


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "adabound", "ftrl", "adadelta"])
def test_chains_refuse_under_their_own_name(name):
    tx = getattr(jc, name)(0.1)
    with pytest.raises(NamedError, match=rf"^{name}: at hidden1/bias the parameter must be of"):
        tx.init(COUNTERS)
    wrong = jax.tree.map(lambda leaf: leaf[..., :2], PARAMS)
    with pytest.raises(NamedError, match=rf"^{name}: at hidden1/bias the gradient has shape"):
        tx.update(wrong, tx.init(PARAMS), PARAMS)


def test_stages_inside_of_others_keep_their_names():
    with pytest.raises(NamedError, match=r"^adam: at hidden1/bias"):
        jc.lookahead(jc.adam(0.1)).init(COUNTERS)
    with pytest.raises(NamedError, match=r"^adamw: needs the parameters"):
        jc.chain(jc.clip(1.0), jc.adamw(0.1)).update(
            PARAMS, jc.chain(jc.clip(1.0), jc.adamw(0.1)).init(PARAMS)
        )
    with pytest.raises(NamedError, match=r"^add_l1_decay: needs the parameters"):
        jc.add_l1_decay(0.1).update(PARAMS, jc.add_l1_decay(0.1).init(PARAMS))


def test_a_rule_of_the_users_keeps_its_name():
    def halved():
        return jc.leafwise(lambda param: (), lambda g, s, p, t: (g / 2, s), optax.EmptyState)

    with pytest.raises(NamedError, match=r"^test_a_rule_of_the_users_keeps_its_name"):
        halved().init(COUNTERS)


EXAMPLES = (np.ones((8, 2), np.float32), np.zeros(8, np.int32))


def network(rngs):
    return layers.MLP(2, 2, units=[2], rngs=rngs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: training.random_search(
                network,
                jc.adam,
                {"learning_rate": [0.1]},
                train=EXAMPLES,
                cv=EXAMPLES,
                batch_size=9,
            ),
            "random_search: batch_size must be",
        ),
        (
            lambda: training.random_search(
                network, jc.adam, {"learning_rate": [0.1]}, train=EXAMPLES, cv=EXAMPLES, epoch=1
            ),
            "random_search: there is no argument epoch, did you mean epochs?",
        ),
        (
            lambda: training.cross_validate(
                network, jc.adam(0.1), train=EXAMPLES, cv=EXAMPLES, batch_size=9
            ),
            "cross_validate: batch_size must be",
        ),
        (
            lambda: training.learning_rate_range(
                network(nnx.Rngs(0)), jc.adam, train=EXAMPLES, valid=EXAMPLES, batch_size=9
            ),
            "learning_rate_range: batch_size must be",
        ),
        (
            lambda: training.learning_rate_range(
                network(nnx.Rngs(0)), jc.adam(0.1), train=EXAMPLES, valid=EXAMPLES
            ),
            "learning_rate_range: make_tx must be a function",
        ),
        (
            lambda: training.fit_many(
                network(nnx.Rngs(0)), jc.adam(0.1), train=EXAMPLES, valid=EXAMPLES
            ),
            "fit_many: models must be a list",
        ),
        (
            lambda: training.fit_many(
                [network(nnx.Rngs(0))], jc.adam, [0.1], train=EXAMPLES, valid=EXAMPLES
            ),
            "fit_many: hyperparameters must be a list of dictionaries",
        ),
        (
            lambda: jc.adadelta(0.1, weight_decay_mask={"hidden1": "no"}),
            "adadelta: weight_decay_mask must be",
        ),
        (lambda: layers.MLP(2, 2, units=5, rngs=nnx.Rngs(0)), "MLP: units must be a list"),
        (
            lambda: jc.adam(0.1, mu_dtype="bfloat17"),
            "adam: mu_dtype must be a dtype of floating point, got 'bfloat17'",
        ),
        (
            lambda: jc.adam(lambda count: "fast").init(PARAMS),
            "adam: learning_rate(0) must be a number",
        ),
        (
            lambda: jc.adam(lambda count: jnp.ones(3)).init(PARAMS),
            "adam: learning_rate(0) must be a number",
        ),
        (
            lambda: jc.sgd(0.1, momentum=lambda count: "x").update(
                PARAMS, jc.sgd(0.1, momentum=lambda count: "x").init(PARAMS)
            ),
            "sgd: at hidden1/bias needs schedules that return a number",
        ),
        (
            lambda: training.DNNClassifier(batch_size=0).fit(*EXAMPLES),
            "DNNClassifier: batch_size must be",
        ),
    ],
)
def test_functions_made_of_others(call, message):
    with pytest.raises(NamedError) as caught:
        call()
    assert str(caught.value).startswith(message)
