"""The ranges that cards show are those that are declared and enforced, argument by argument."""

import functools
import inspect
import operator
import re
import types
from typing import Annotated, get_args, get_origin

import jax
import optax
import pytest

import jaxopt_cards as jc
from jaxopt_cards import cards, schedules
from jaxopt_cards.core.declaration import declaration_of

RANGE = re.compile(r"(?:`None`, or )?(?:float|number|int) in ([\[(][^,]+, [^,]+?[\])])(?=\W)")
# What stands in required arguments while another one is tested.
FILLED = {
    **dict.fromkeys(["inner", "fast"], jc.sgd(0.1)),
    **dict.fromkeys(["learning_rate", "momentum", "decay", "decay_rate", "l1", "l2"], 0.1),
    **dict.fromkeys(["max_delta", "max_norm", "threshold", "clipping", "strength"], 1.0),
    **dict.fromkeys(["value", "init_value"], 1.0),
    "transition_steps": 10,
    "order": ["hidden1"],
    "params": {},
    "pretrained": {},
}
# Of two values.
WITHOUT_RANGE = {("compress_state", "bits")}
NUMBERS = [
    int,
    float,
    *(
        annotation
        for number in (jax.typing.ArrayLike, optax.ScalarOrSchedule)
        for annotation in (number, number | None)
    ),
]
OURS = {
    name: getattr(module, name)
    for module in (jc, schedules)
    for name in module.__all__
    if getattr(getattr(module, name), "__module__", "").startswith("jaxopt_cards.")
    and inspect.isfunction(getattr(module, name))
}


def _type(annotation):
    """The type of an argument without its range."""
    parts = get_args(annotation) if get_origin(annotation) is types.UnionType else (annotation,)
    bare = [get_args(part)[0] if get_origin(part) is Annotated else part for part in parts]
    return functools.reduce(operator.or_, bare)


def outside(interval, is_int):
    """The nearest numbers that are not in an interval, and what is no number at all."""
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    least = int(low) - 1 if is_int else low - 1e-6
    below = [least if interval[0] == "[" else low] if low > -float("inf") else []
    above = [high + 1e-6 if interval[-1] == "]" else high]
    above = [] if interval.endswith(" inf]") else above  # infinity itself is allowed
    return [*below, *above, float("nan"), "0.5", [0.5, 0.5], *([1.5] if is_int else [])]


def shown():
    """Each range that a card shows: function, argument, type and range."""
    for name in OURS:
        for argument in cards.card(name).arguments:
            if found := RANGE.match(argument.text):
                yield name, argument.name, argument.text.split()[0], found[1]


@pytest.mark.parametrize(
    ("name", "argument", "bad"),
    [
        pytest.param(name, argument, bad, id=f"{name}-{argument}-{bad}")
        for name, argument, kind, interval in shown()
        for bad in outside(interval, kind == "int")
    ],
)
def test_values_outside_the_range_are_refused(name, argument, bad):
    function = OURS[name]
    required = {
        key: FILLED[key]
        for key, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
    }
    if (name, argument) == ("magnitude_prune", "every"):
        required["threshold"] = 1.0  # it has no default, but may be left out
    with pytest.raises(ValueError, match=rf"^{name}: {argument} must .*, got "):
        function(**required | {argument: bad})


def test_every_number_has_a_range():
    ranged = {(name, argument) for name, argument, *_ in shown()}
    numbers = {
        (name, argument)
        for name, function in OURS.items()
        for argument, parameter in inspect.signature(function).parameters.items()
        if _type(parameter.annotation) in NUMBERS
    }
    assert numbers - ranged == WITHOUT_RANGE


def test_cards_show_every_declared_range():
    ranges = {(name, argument): (kind, interval) for name, argument, kind, interval in shown()}
    for name, function in OURS.items():
        for argument, interval in declaration_of(function).ranges.items():
            kind = _type(inspect.signature(function).parameters[argument].annotation)
            expected = "int" if kind is int else "float"
            assert ranges[name, argument] == (expected, interval), (name, argument)
