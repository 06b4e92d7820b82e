"""The ranges that docstrings promise are those that are enforced, argument by argument."""

import inspect
import re
from typing import Annotated, get_args, get_origin

import jax
import optax
import pytest

import jaxopt_cards as jc
from jaxopt_cards import schedules
from jaxopt_cards.core.declaration import declaration_of

RANGE = re.compile(
    r"^    (\w+): (?:`None`, or )?(?:float|number) in ([\[(][^,\n]+, [^,\n]+?[\])])(?=\W)",
    re.MULTILINE,
)
COUNT = re.compile(r"^    (\w+): whole number (>=?) 0", re.MULTILINE)
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
# Any finite number; or one of two.
WITHOUT_RANGE = {
    ("constant", "value"),
    ("exponential_decay", "init_value"),
    ("exponential_decay", "end_value"),
    ("power_decay", "init_value"),
    ("compress_state", "bits"),
}
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
    if get_origin(annotation) is Annotated:
        return get_args(annotation)[0]
    return annotation


def outside(interval):
    """The nearest numbers that are not in an interval, and what is no number at all."""
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    below = [low - 1e-6 if interval[0] == "[" else low] if low > -float("inf") else []
    above = [high + 1e-6 if interval[-1] == "]" else high]
    above = [] if interval.endswith(" inf]") else above  # infinity itself is allowed
    return [*below, *above, float("nan"), "0.5", [0.5, 0.5]]


def arguments():
    """Each promised range: function, argument, what lies outside."""
    for name, function in OURS.items():
        for argument, interval in RANGE.findall(inspect.getdoc(function)):
            yield name, argument, outside(interval)
        for argument, sign in COUNT.findall(inspect.getdoc(function)):
            yield name, argument, [-1, 1.5, *([0] if sign == ">" else [])]


@pytest.mark.parametrize(
    ("name", "argument", "bad"),
    [
        pytest.param(name, argument, bad, id=f"{name}-{argument}-{bad}")
        for name, argument, values in arguments()
        for bad in values
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
    ranged = {(name, argument) for name, argument, _ in arguments()}
    numbers = {
        (name, argument)
        for name, function in OURS.items()
        for argument, parameter in inspect.signature(function).parameters.items()
        if _type(parameter.annotation) in NUMBERS
    }
    assert numbers - ranged == WITHOUT_RANGE


def test_declared_ranges_are_those_of_the_docstrings():
    said = {(name, argument) for name, argument, _ in arguments()}
    for name, function in OURS.items():
        doc = inspect.getdoc(function)
        for argument, interval in declaration_of(function).ranges.items():
            kind = inspect.signature(function).parameters[argument].annotation
            if int in get_args(kind):
                assert (name, argument) in said
            elif interval != "(-inf, inf)":
                assert re.search(rf"^    {argument}: .*{re.escape(interval)}", doc, re.MULTILINE)
