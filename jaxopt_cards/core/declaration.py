"""What a public function declares once: its name, the ranges of its arguments, what it needs.

`declare` decorates every public function. The range of an argument is part of its annotation:

    @declare(needs_params=True)
    def max_norm(max_norm: Annotated[ArrayLike, "(0, inf]"], ...): ...

The declaration is the source of the checks and their errors, of the cards, of columns of the tests'
table, and of what `cards.describe` prints.
"""

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from typing import (
    Annotated,
    Any,
    NamedTuple,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)
from typing import overload as _overload

from jaxopt_cards.core.errors import ArgumentError, named_as, named_stages, nearest_argument

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Call(NamedTuple):
    """The call that made a transformation."""

    name: str
    arguments: Mapping[str, Any]  # as given, and defaults


@dataclasses.dataclass(eq=False)
class Declaration:
    """What is declared of a public function.

    Attributes:
        function: the function itself.
        needs_params: whether `update` of the transformation needs the parameters.
        elementwise: whether an element's update depends on that element alone, if the other
            arguments have their defaults.
        takes_complex: whether parameters may be complex.
        is_wrapper: whether it wraps a transformation given by the user, whose errors then keep
            their own names.
        gradient_at: the public function of the parameters and the state that tells where `update`
            wants the gradient; empty if at the parameters.
        evaluated_at: the public function of the same that gives the parameters to evaluate and to
            keep; empty if they are the parameters themselves.
        settings: defaults of the arguments that are gathered in `**settings`, whose annotation is
            `Unpack` of a typed dictionary; the function is given all of them.
        refused: arguments that other functions or earlier versions take, and what must be done
            instead: `{"mesh": "be given as placement=mesh"}`.
    """

    function: Callable[..., Any]
    needs_params: bool = False
    elementwise: bool = False
    takes_complex: bool = True
    is_wrapper: bool = False
    gradient_at: str = ""
    evaluated_at: str = ""
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    refused: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """By which errors call it."""
        return self.function.__qualname__.removesuffix(".__init__")

    @functools.cached_property
    def signature(self) -> inspect.Signature:
        """Read at the first call: an import should not wait for it."""
        signature = inspect.signature(self.function)
        if not self.settings:
            return signature
        *named, gathered = signature.parameters.values()
        (kinds,) = get_args(gathered.annotation)
        hints = get_type_hints(kinds, include_extras=True)
        each = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name]
            )
            for name, default in self.settings.items()
        ]
        return signature.replace(parameters=[*named, *each])

    @functools.cached_property
    def ranges(self) -> dict[str, str]:
        """The range of each argument that is a number, such as "[0, 1)"."""
        return {name: interval for name, _, interval in self._annotated()}

    @functools.cached_property
    def _checks(self) -> dict[str, Callable[[str, Any], Any]]:
        annotated = list(self._annotated())
        transformations = [
            name
            for name, parameter in self.signature.parameters.items()
            if getattr(parameter.annotation, "_fields", None) == ("init", "update")
        ]
        if not (annotated or transformations):
            return {}
        # Late, since checks need JAX, and some public functions do not.
        from jaxopt_cards.core import checks

        return {
            **{name: checks.of_type(kind, interval) for name, kind, interval in annotated},
            **dict.fromkeys(transformations, checks.check_tx),
        }

    def _annotated(self) -> Iterator[tuple[str, Any, str]]:
        """The arguments with a range: name, type, and range."""
        for name, parameter in self.signature.parameters.items():
            is_union = get_origin(parameter.annotation) in (Union, types.UnionType)
            parts = get_args(parameter.annotation) if is_union else (parameter.annotation,)
            for part in parts:
                if get_origin(part) is Annotated:
                    yield name, *get_args(part)[:2]

    def bound(self, args: tuple, kwargs: dict[str, Any]) -> inspect.BoundArguments:
        """The arguments by name, checked."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentError(self._explained(str(error), kwargs)) from None
        for name, check in self._checks.items():
            value = bound.arguments.get(name, inspect.Parameter.empty)
            # `None` is a value of its own where it is a default, or in the annotation.
            parameter = self.signature.parameters[name]
            if value is None and (
                parameter.default is None or type(None) in get_args(parameter.annotation)
            ):
                continue
            if value is not inspect.Parameter.empty:
                bound.arguments[name] = check(name, value)
        if self.settings:
            bound.apply_defaults()
        return bound

    def _explained(self, problem: str, kwargs: dict[str, Any]) -> str:
        """Why the arguments do not fit the signature."""
        parameters = [p for p in self.signature.parameters.values() if p.name != "self"]
        names = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        takes = f"{self.name} takes {', '.join(names) or 'no arguments'}"
        takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
        unknown = [] if takes_any else [key for key in kwargs if key not in names]
        if not unknown:
            return f"{problem}. {takes}"
        refused = {**({"pattern": "be given as mask"} if "mask" in names else {}), **self.refused}
        if unknown[0] in refused:
            return f"{unknown[0]} must {refused[unknown[0]]}, got {kwargs[unknown[0]]!r}"
        near = nearest_argument(unknown[0], names)
        meant = f", did you mean {near}?" if near else "."
        return f"there is no argument {unknown[0]}{meant} {takes}"


@_overload
def declare(function: Callable[_Arguments, _Result], /) -> Callable[_Arguments, _Result]: ...
@_overload
def declare(
    **declared: Any,
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]: ...
def declare(function: Any = None, /, **declared: Any) -> Any:
    """Declares a public function: see the attributes of `Declaration`.

    Its arguments are checked, and errors inside it, and inside the transformation that it returns,
    bear its name. A call that does not fit the signature is an `ArgumentError`, which lists the
    arguments.
    """
    if function is None:
        return functools.partial(declare, **declared)
    declaration = Declaration(function, **declared)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        with named_as(declaration.name):
            bound = declaration.bound(args, kwargs)
            made = function(*bound.args, **bound.kwargs)
        # A transformation is known by its fields: cards are read without Optax.
        if getattr(made, "_fields", None) != ("init", "update"):
            return made
        made = named_stages(declaration.name, made, keeps_names=declaration.is_wrapper)
        bound.apply_defaults()
        made.update.call = Call(declaration.name, bound.arguments)
        return made

    result: Any = checked
    result.declaration = declaration
    return result


def declaration_of(function: Any) -> Declaration | None:
    """What a public function declares; `None` of other functions."""
    return getattr(function, "declaration", None)
