"""Recovers the hyperparameters of a transformation from its closures."""

import functools
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optax

from jaxopt_cards.cards.values import Call
from jaxopt_cards.core.checks import is_transformation
from jaxopt_cards.core.declaration import Call as MadeBy


class Stage(NamedTuple):
    """A transformation: its maker, its hyperparameters, and the transformations inside it."""

    name: str
    hyperparameters: dict[str, Any]
    children: list[tuple[str, optax.GradientTransformation]]  # each with its label, often ""
    not_found: list[str]  # arguments of the maker that are not in the closures
    variables: dict[str, Any]  # all variables of the closures


def read(tx: Any) -> Stage:
    """Reads a stage from a transformation.

    Transformations of this package keep the call that made them; Optax's are read from closures.
    """
    init, update = _functions(tx)
    name = _maker(update)
    call = _call_of(tx)
    if call and name not in ("chain", "named_chain", "masked"):
        return _called(call)
    found = _variables(name, update, init)
    if name == "inject_hyperparams":
        return _injected(found)
    children = _children(found)
    if call and name == "masked":
        children = [(label, _with_call(child, call)) for label, child in children]
    numbers = {
        key: _value(value)
        for key, value in found.items()
        if not _holds_transformations(value) and key != "init_fns" and key != "update_fns"
    }
    learning_rate = _learning_rate(numbers)
    if learning_rate:
        return Stage("scale_by_learning_rate", learning_rate, [], [], found)
    inside = {key for key, value in found.items() if _holds_transformations(value)}
    known = {*numbers, *inside, "mask"}
    missing = [key for key in _arguments(update) if key not in known]
    stage = Stage(name, numbers, children, missing, found)
    return _without_echo(stage)


def _call_of(tx: Any) -> MadeBy | None:
    """The innermost call of this package that made a transformation; `adam` has several."""
    found, function = None, tx.update
    while function is not None:
        call = vars(function).get("call") if inspect.isfunction(function) else None
        found = call if call and call.name != "leafwise" else found
        inner = getattr(function, "__wrapped__", None)
        if inner is None and _maker(function) == "with_extra_args_support":
            inner = getattr(_cells(function).get("tx"), "update", None)
        function = inner
    return found


def _called(call: MadeBy) -> Stage:
    """The stage of a recorded call, without masks, which `masked` shows."""
    parts = {key: value for key, value in call.arguments.items() if is_transformation(value)}
    numbers = {
        key: _value(value)
        for key, value in call.arguments.items()
        if key not in parts and key != "mask"  # shown by `masked`, a separate stage
    }
    children = [(key if len(parts) > 1 else "", part) for key, part in parts.items()]
    return Stage(call.name, numbers, children, [], dict(call.arguments))


def _with_call(tx: Any, call: MadeBy) -> Any:
    """A copy of a transformation that keeps a call."""
    update: Any = functools.wraps(tx.update)(lambda *args, **kwargs: tx.update(*args, **kwargs))
    update.call = call
    return tx._replace(update=update)


def _functions(tx: Any) -> tuple[Any, Any]:
    """`init` and `update`, without wrappers that have no hyperparameters."""
    init, update = tx.init, tx.update
    while True:
        # The functions of this package are wrapped to name them in errors.
        init, update = inspect.unwrap(init), inspect.unwrap(update)
        found = _cells(update)
        if _maker(update) == "with_extra_args_support" and "tx" in found:
            init, update = found["tx"].init, found["tx"].update
        elif _maker(update) == "leafwise" and "equation" in found:
            init, update = found["equation"].__wrapped__.args[:2]
        else:
            return init, update


def _maker(function: Any) -> str:
    """The name of the function that made this one; for a method, its class."""
    owner = getattr(function, "__self__", None)
    if owner is not None:
        return type(owner).__name__
    function = _unwrapped(function)
    name = getattr(function, "__qualname__", type(function).__name__)
    return name.split(".<locals>")[0]


def _unwrapped(function: Any) -> Any:
    """The function inside `jax.jit` and `functools.partial`."""
    while not inspect.isfunction(function):
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    return function


def _cells(function: Any) -> dict[str, Any]:
    """The variables that a function closes over, or those of a method's object."""
    owner = getattr(function, "__self__", None)
    if owner is not None:
        return {key.lstrip("_"): value for key, value in vars(owner).items()}
    found = {}
    if isinstance(function, functools.partial):
        names = list(inspect.signature(function.func).parameters)
        found = dict(zip(names, function.args, strict=False)) | function.keywords
    code = getattr(function := _unwrapped(function), "__code__", None)
    for key, cell in zip(code.co_freevars if code else (), function.__closure__ or (), strict=True):
        try:
            found[key] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _variables(maker: str, *functions: Any) -> dict[str, Any]:
    """The variables in the closures of functions and of their maker's helpers, by argument."""
    found: dict[str, Any] = {}
    waiting, seen = list(functions), []
    while waiting:
        function = waiting.pop()
        seen.append(function)
        for key, value in _cells(function).items():
            if _is_helper(value, maker):
                waiting += [value] if value not in seen else []
            elif not (inspect.isclass(value) or inspect.ismodule(value) or value == maker):
                found[key] = value
    order = list(_arguments(functions[0]))
    return dict(sorted(found.items(), key=lambda item: [*order, item[0]].index(item[0])))


def _is_helper(value: Any, maker: str) -> bool:
    is_local = "<locals>" in getattr(_unwrapped(value), "__qualname__", "")
    return callable(value) and is_local and _maker(value).split(".")[0] == maker.split(".")[0]


def _making(function: Any) -> Any:
    """The function that made this one, if its module has it."""
    owner = getattr(function, "__self__", None)
    if owner is not None:
        return type(owner)
    module = sys.modules.get(getattr(_unwrapped(function), "__module__", ""))
    made = getattr(module, _maker(function), None)
    return made if callable(made) and made is not _unwrapped(function) else None


def _arguments(function: Any) -> list[str]:
    making = _making(function)
    if making is None:
        return []
    parameters = inspect.signature(making).parameters.values()
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _holds_transformations(value: Any) -> bool:
    return is_transformation(value) or bool(_labelled(value))


def _labelled(value: Any) -> list[tuple[str, Any]]:
    """The transformations in a mapping, in a list, or in a list of pairs with names."""
    if isinstance(value, Mapping):
        pairs = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str) and not hasattr(value, "init"):
        pairs = [item if _is_pair(item) else ("", item) for item in value]
    else:
        return []
    return pairs if all(is_transformation(item) for _, item in pairs) else []


def _is_pair(item: Any) -> bool:
    is_pair = isinstance(item, tuple) and len(item) == 2 and not hasattr(item, "init")
    return is_pair and isinstance(item[0], str)


def _children(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    if "init_fns" in found and "update_fns" in found:
        pairs = zip(found["init_fns"], found["update_fns"], strict=True)
        return [("", optax.GradientTransformation(*pair)) for pair in pairs]
    own = [key for key, value in found.items() if is_transformation(value)]
    children = []
    for key, value in found.items():
        # A single one needs no label.
        label = key if len(own) > 1 else ""
        children += [(label, value)] if is_transformation(value) else _labelled(value)
    return children


def _value(value: Any) -> Any:
    """A hyperparameter, with functions as calls, also inside lists."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [_value(item) for item in value]
    if callable(value) and not isinstance(value, np.dtype):
        return _call(value)
    return value


def _call(function: Any) -> Call:
    if type(function).__name__ == "WrappedSchedule":  # Optax's, in inject_hyperparams
        return _call(function.schedule_fn)
    name = _maker(function)
    found = _variables(name, function)
    return Call(name, {key: _value(value) for key, value in found.items()})


def _learning_rate(numbers: Mapping[str, Any]) -> dict[str, Any] | None:
    """The rate of Optax's scale_by_learning_rate with a schedule, which is in a lambda."""
    match numbers:
        case {"step_size_fn": Call(name="scale_by_learning_rate", arguments=found)}:
            flipped = {} if found.get("m") == -1 else {"flip_sign": False}
            return {"learning_rate": found["learning_rate"]} | flipped
    return None


def _injected(found: Mapping[str, Any]) -> Stage:
    factory = getattr(found["inner_factory"], "__name__", str(found["inner_factory"]))
    kinds = ("sched_hps", "numeric_hps", "other_hps")
    given = {key: _value(item) for kind in kinds for key, item in found[kind].items()}
    order = list(inspect.signature(found["inner_factory"]).parameters)
    given = {key: given[key] for key in order if key in given} | given
    return Stage(f"inject_hyperparams({factory})", given, [], [], dict(found))


def _without_echo(stage: Stage) -> Stage:
    """Replaces a wrapper around Optax's function of the same name by that function."""
    if len(stage.children) == 1:
        inner = read(stage.children[0][1])
        if inner.name == stage.name:
            return inner
    return stage
