"""Calls and chains as text for the command line, such as `adam:1e-3,b1=0.5`.

A call is `name`, `name:argument,key=value` or `name(argument, key=value)`, with arguments as in
Python: numbers, `True`, `False`, `None`, lists such as `[50,100]`, and calls such as
`constant(0.1)` for a schedule in an optimizer. Any other word is text. `lr` is short for
`learning_rate`. A chain is several calls separated by spaces; a schedule in it is the learning
rate.
"""

import ast
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax

from jaxopt_cards.cards.index import nearest
from jaxopt_cards.cards.spec_checks import check_call, check_values
from jaxopt_cards.core.errors import NamedError, named_as

WORDS = {"true": True, "false": False, "none": None, "inf": float("inf")}
SHORT = {"lr": "learning_rate"}
WHOLE_STEPS = {"scale_by_learning_rate", "scale_by_true_nesterov", "scale_by_ftrl", "lbfgs"}
SIGNED = {"scale", "scale_by_schedule"}  # steps if their number is negative, which the user sets
FEW = 12  # names that are all listed if none is similar


class Spec(NamedTuple):
    """A parsed call; calls in the arguments are specs, too."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def parse(text: str) -> Spec:
    """Parses one call."""
    name, colon, arguments = text.strip().partition(":")
    # A colon inside brackets or quotes does not separate the name.
    if not colon or not name.isidentifier():
        name, arguments = text.strip(), ""
    source = f"{name}({arguments})" if name.isidentifier() else name
    try:
        node = ast.parse(source, mode="eval").body
        if not isinstance(node, ast.Call):
            raise ValueError
        spec = _call(node)
    except (SyntaxError, ValueError):
        raise ValueError(
            f"cannot read {text!r}: write name:argument,key=value such as adam:1e-3,b1=0.5"
        ) from None
    _check_given_once(node)
    return spec


def stages(text: str) -> list[str]:
    """The parts of a chain, separated by spaces outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote or letter in "'\"":
            quote = "" if letter == quote else quote or letter
        depth += 0 if quote else (letter in "([{") - (letter in ")]}")
        if letter.isspace() and not quote and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part]


def build(text: str | Spec, among: Mapping[str, Callable[..., Any]]) -> Any:
    """Calls the function of a spec, after the calls in its arguments, with names from `among`."""
    name, args, kwargs = parse(text) if isinstance(text, str) else text
    function = named(name, among)
    signature = inspect.signature(function)
    _check_arguments(name, signature, args, kwargs)
    args = tuple(_built(value, among) for value in args)
    kwargs = {key: _built(value, among) for key, value in kwargs.items()}
    try:
        with named_as(name):
            check_values(name, function, signature.bind(*args, **kwargs))
        return function(*args, **kwargs)
    except NamedError as error:
        error.is_final = True  # keeps the name that the user wrote
        raise
    except (TypeError, AttributeError, ValueError) as error:
        # Such as text in place of a number; Optax's errors do not name the function.
        raise ValueError(f"{name}: {error}") from None


def _check_arguments(
    name: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Raises unless the function accepts these arguments."""
    parameters = signature.parameters.values()
    keywords = [p.name for p in parameters if p.kind != p.POSITIONAL_ONLY]
    if not any(p.kind == p.VAR_KEYWORD for p in parameters):
        for key in kwargs.keys() - set(keywords):
            raise ValueError(f"{name}: there is no argument {key!r}{_nearest(key, keywords)}")
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"{name}: {error}; use {name}{_shown(signature)}") from None


def _check_given_once(node: ast.AST) -> None:
    """Raises if an argument is given twice, which Python reports as a syntax error."""
    for call in (each for each in ast.walk(node) if isinstance(each, ast.Call)):
        names = [SHORT.get(key.arg, key.arg) for key in call.keywords if key.arg]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{ast.unparse(call.func)}: {twice[0]} is given twice")


def named(name: str, among: Mapping[str, Any]) -> Any:
    """The value with this name; errors suggest similar names."""
    if name not in among:
        raise ValueError(f"there is no {name!r}{_nearest(name, among)}")
    return among[name]


def transformation(text: str) -> Any:
    """The transformation of a chain; a schedule in it is the learning rate."""
    import jaxopt_cards as jc

    parts = [parse(stage) for stage in stages(text)]
    among, of_time = transformations(), schedules()
    built, steps = [], []
    for spec in parts:
        stage = build(spec, {**among, **of_time})
        built.append(jc.scale_by_learning_rate(stage) if spec.name in of_time else stage)
        if _names(spec) & {*optimizers(), *of_time, *WHOLE_STEPS}:
            steps.append(spec.name)
    if len(steps) > 1:
        raise ValueError(
            f"a chain must have one learning rate, got {len(steps)}: {', '.join(steps)}; use "
            "scale_by_adam in place of an optimizer such as adam"
        )
    if not steps and not any(_names(spec) & SIGNED for spec in parts):
        raise ValueError(
            f"the chain {text!r} has no learning rate: end it with scale_by_learning_rate:0.01, or "
            "with a schedule such as exponential_decay:0.01,1000,0.5"
        )
    return built[0] if len(built) == 1 else jc.chain(*built)


def schedule(text: str) -> Any:
    """The schedule of a text; a number is a constant schedule."""
    from jaxopt_cards.schedules import constant

    try:
        number = float(text)
    except ValueError:
        function = build(text, schedules())
    else:
        return constant(number)
    # Optax's schedules mix integers and floats, which strict dtype promotion refuses.
    with jax.numpy_dtype_promotion("standard"):
        check_call(text, function, 0)
    return function


def optimizers() -> dict[str, Callable[..., Any]]:
    """The named optimizers, for `build`."""
    from jaxopt_cards import optimizers

    return optimizers.by_name()


def schedules() -> dict[str, Callable[..., Any]]:
    """The schedules, for `build`."""
    from jaxopt_cards import schedules

    return {name: getattr(schedules, name) for name in schedules.__all__}


def transformations() -> dict[str, Callable[..., Any]]:
    """All functions that return a transformation, including optimizers, for `build`."""
    import jaxopt_cards as jc

    public = {name: getattr(jc, name) for name in jc.__all__}
    return {
        name: thing
        for name, thing in public.items()
        if inspect.isfunction(thing)
        and "GradientTransformation" in str(inspect.signature(thing).return_annotation)
    }


def _call(node: ast.Call) -> Spec:
    if not isinstance(node.func, ast.Name) or any(key.arg is None for key in node.keywords):
        raise ValueError
    kwargs = {SHORT.get(key.arg, key.arg): _value(key.value) for key in node.keywords if key.arg}
    return Spec(node.func.id, tuple(map(_value, node.args)), kwargs)


def _value(node: ast.expr) -> Any:
    """The value of a literal, a word as text, or a call as a spec."""
    match node:
        case ast.Call():
            return _call(node)
        case ast.Name():
            return WORDS.get(node.id.lower(), node.id)
        case ast.List() | ast.Tuple():
            return [_value(element) for element in node.elts]
        case ast.Dict() if all(key is not None for key in node.keys):
            values = [_value(value) for value in node.values]
            return dict(zip([_value(key) for key in node.keys if key], values, strict=True))
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id="inf")):
            return -float("inf")
    return ast.literal_eval(node)


def _built(value: Any, among: Mapping[str, Callable[..., Any]]) -> Any:
    """The value, with its specs replaced by the results of their calls."""
    if isinstance(value, Spec):
        return build(value, among)
    if isinstance(value, list):
        return [_built(element, among) for element in value]
    if isinstance(value, dict):
        return {key: _built(element, among) for key, element in value.items()}
    return value


def _names(value: Any) -> set[str]:
    """The names of all calls in a spec."""
    if isinstance(value, Spec):
        return {value.name}.union(*map(_names, [*value.args, *value.kwargs.values()]))
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return set().union(*map(_names, inner))


def _nearest(name: str, among: Iterable[str]) -> str:
    """A hint with similar names, or else with all names if they are few."""
    names = list(among)
    if near := nearest(name, names, cutoff=0.5):  # they are short, such as b1
        return f"; nearest: {', '.join(near)}"
    return f"; there are: {', '.join(names)}" if len(names) <= FEW else ""


def _shown(signature: inspect.Signature) -> str:
    """The arguments with their defaults, without types."""
    bare = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=bare, return_annotation=signature.empty))
