import inspect
import keyword
import re

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxopt_cards as jc
from jaxopt_cards.cards import spec_text as _spec

NUMBERS = st.floats(-1e6, 1e6) | st.integers(-100, 100) | st.booleans() | st.none()
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name.isidentifier() and name not in _spec.WORDS and not _is_keyword(name)
)
VALUES = NUMBERS | st.lists(NUMBERS, max_size=3) | NAMES


def _is_keyword(name):
    return keyword.iskeyword(name) or name in _spec.SHORT


def written(value):
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    return value if isinstance(value, str) else repr(value)


@given(name=NAMES, args=st.lists(VALUES, max_size=3), kwargs=st.dictionaries(NAMES, VALUES))
def test_what_is_written_is_read(name, args, kwargs):
    parts = [*map(written, args), *(f"{key}={written(value)}" for key, value in kwargs.items())]
    spec = _spec.Spec(name, tuple(args), kwargs)
    assert _spec.parse(f"{name}({', '.join(parts)})") == spec
    assert _spec.parse(f"{name}:{','.join(parts)}" if parts else name) == spec


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("clip:1 adam:1e-3", ["clip:1", "adam:1e-3"]),
        ("  adam( 1e-3, b1=0.5 )  ", ["adam( 1e-3, b1=0.5 )"]),
        ("a:[1, 2] b:'x y' c", ["a:[1, 2]", "b:'x y'", "c"]),
        ("partition:{a: sgd(0.1)},a b", ["partition:{a: sgd(0.1)},a", "b"]),
    ],
)
def test_a_chain_is_parted_at_spaces_outside_of_brackets(text, parts):
    assert _spec.stages(text) == parts


def steps_of(tx):
    """Some updates: what the chain does, whatever its closures are."""
    params, found = {"w": jnp.array([1.0, -2.0, 3.0])}, []
    state = tx.init(params)
    for step in (1.0, 2.0, 3.0):
        grads = {"w": params["w"] * step}
        updates, state = tx.update(grads, state, params)
        found.append(updates["w"])
    return np.stack(found)


@pytest.mark.parametrize(
    ("text", "tx"),
    [
        ("adam:1e-3,b1=0.5", jc.adam(1e-3, b1=0.5)),
        ("adam:lr=1e-3", jc.adam(1e-3)),
        ("momentum(0.1, momentum=0.5)", jc.momentum(0.1, momentum=0.5)),
        ("sgd:exponential_decay(0.1,2,0.5)", jc.sgd(jc.schedules.exponential_decay(0.1, 2, 0.5))),
        ("lookahead:sgd(0.1),sync_period=2", jc.lookahead(jc.sgd(0.1), sync_period=2)),
        (
            "clip_by_global_norm:1 scale_by_adam add_decayed_weights:1e-4 "
            "piecewise_constant:[1],[0.1,0.01]",
            jc.chain(
                jc.clip_by_global_norm(1.0),
                jc.scale_by_adam(),
                jc.add_decayed_weights(1e-4),
                jc.scale_by_learning_rate(jc.schedules.piecewise_constant([1], [0.1, 0.01])),
            ),
        ),
        ("trace:0.9 scale:-0.1", jc.chain(jc.trace(0.9), jc.scale(-0.1))),
    ],
)
def test_a_chain_does_what_it_does_in_python(text, tx):
    np.testing.assert_array_equal(steps_of(_spec.transformation(text)), steps_of(tx))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no learning rate"),
        ("adm:1e-3", "there is no 'adm'; nearest: adam"),
        ("adam", "adam: missing a required argument: 'learning_rate'; use adam(learning_rate"),
        ("adam:1,b3=2", "adam: there is no argument 'b3'; nearest: b"),
        ("adam:1,b1=2", r"adam: b1 must lie in [0, 1), got 2"),
        ("adam:1,2,3,4,5,6,7,8", "adam: too many positional arguments"),
        ("adam:fast", "learning_rate must be a number"),
        ("lookahead:sgd", "fast must be a transformation such as sgd(0.1), got 'sgd'"),
        ("chain(adam(0.1),3)", "chain: args must be a transformation such as sgd(0.1), got 3"),
        ("chain", "chain: "),
        ("adam:lr=0.1,b1=0.5,learning_rate=1", "adam: learning_rate is given twice"),
        ("sgd:linear_schedule(0,1,2,end_value=1,end_value=2)", "end_value is given twice"),
        ("freeze:hidden1 sgd:0.1", "freeze: mask must be True or False, got 'hidden1'"),
        ("adam:1e-3:5", "cannot read 'adam:1e-3:5'"),
        ("adam:__import__('os').system('ls')", "cannot read"),
        ("adam:[x for x in y]", "cannot read"),
        ("adam:open('x')", "there is no 'open'"),
        ("ad-am", "cannot read 'ad-am'"),
        ("scale_by_adam", "end it with scale_by_learning_rate"),
        ("adam:1 exponential_decay:1,2,0.5", "one learning rate, got 2: adam, exponential_decay"),
    ],
)
def test_mistakes_are_told(text, words):
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        _spec.transformation(text)
    assert "\n" not in str(error.value)


def test_schedules_are_built_and_a_number_is_one():
    assert _spec.schedule("0.5")(100) == 0.5
    assert float(_spec.schedule("power_decay:0.1,10")(10)) == pytest.approx(0.05)
    joined = _spec.schedule("join_schedules:[constant(1.0),constant(2.0)],[5]")
    assert [float(joined(step)) for step in (4, 5)] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("exponental_decay:0.1,10,0.5", "nearest: exponential_decay"),
        ("nan", "constant: value must lie in"),
        ("linear_schedule:0,1,0", "transition_steps must be a whole number >= 1, got 0"),
        ("warmup_constant_schedule:0,1,0", "warmup_steps must be a whole number >= 1, got 0"),
        ("join_schedules:[constant(1),constant(2)],[]", "one element more than boundaries"),
        ("join_schedules:3,4", "schedules must be a list"),
        ("cosine_decay_schedule:1,0", "cosine_decay_schedule: "),
        ("cosine_decay_schedule:a,10", "'cosine_decay_schedule:a,10' does not work here"),
    ],
)
def test_mistakes_in_schedules_are_told(text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        _spec.schedule(text)


def test_every_transformation_of_ours_can_be_named():
    known = _spec.transformations()
    for name in jc.__all__:
        thing = getattr(jc, name)
        made = inspect.isfunction(thing) and inspect.signature(thing).return_annotation
        if made in (jc.GradientTransformation, jc.GradientTransformationExtraArgs):
            assert known[name] is thing
    assert {"adam", "clip", "lookahead", "scale_by_adam", "max_norm"} <= set(known)
