"""Errors begin with the name of the function that the user called."""

import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class NamedError(ValueError):
    """An error that keeps the name of the public function apart from the message.

    A function that calls others, as `adam` calls `scale_by_adam`, can then put its own name in
    place of theirs: see `named_in_errors`.
    """

    is_final = False  # whether the name is that of a function the user chose

    def __init__(self, function: str, message: str):
        """The message is shown after the function's name and a colon."""
        super().__init__(f"{function}: {message}")
        self.function, self.message = function, message

    def rename(self, function: str) -> None:
        """Shows another function's name."""
        self.function = function
        self.args = (f"{function}: {self.message}",)

    def __reduce__(self) -> Any:
        """For pickling, as multiprocessing does with errors of other processes."""
        return NamedError, (self.function, self.message)


class ArgumentError(NamedError, TypeError):
    """A call with arguments that the function does not have, or without those that it needs."""


def named_in_errors(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Makes a public function, and the transformation it returns, raise errors in its own name.

    `adamw` is made of `scale_by_adam` and other public functions: where one of these refuses
    something, the user reads the name `adamw`. A call that does not fit the signature is an
    `ArgumentError`, which lists the arguments.
    """
    return _named(function, keeps_names=False)


def wrapper_named_in_errors(
    function: Callable[_Arguments, _Result],
) -> Callable[_Arguments, _Result]:
    """`named_in_errors` for a wrapper: what is inside was named by the user and keeps its name."""
    return _named(function, keeps_names=True)


@contextmanager
def names_kept() -> Iterator[None]:
    """For calls of a function that the user gave, such as `adam`: its errors keep their name."""
    try:
        yield
    except NamedError as error:
        error.is_final = True
        raise


def named_stages(name: str, tx: Any, *, keeps_names: bool = False) -> Any:
    """The transformation with `init` and `update` that raise errors under this name.

    These names are final: a trainer does not put its own in their place. `keeps_names` leaves also
    those alone that an inner transformation has made final.
    """

    def named(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @functools.wraps(function)
        def stage(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            try:
                return function(*args, **kwargs)
            except NamedError as error:
                if not (keeps_names and error.is_final):
                    error.rename(name)
                error.is_final = True
                raise

        return stage

    return tx._replace(init=named(tx.init), update=named(tx.update))


def _named(
    function: Callable[_Arguments, _Result], *, keeps_names: bool
) -> Callable[_Arguments, _Result]:
    name = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def named(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            made = function(*args, **kwargs)
        except NamedError as error:
            if not error.is_final:
                error.rename(name)
            raise
        except TypeError:
            if wrong := _what_is_wrong(name, function, args, kwargs):
                raise ArgumentError(name, wrong) from None
            raise
        # Told by its fields: cards are read without Optax.
        is_transformation = getattr(made, "_fields", None) == ("init", "update")
        return named_stages(name, made, keeps_names=keeps_names) if is_transformation else made

    return named


def _what_is_wrong(name: str, function: Callable, args: tuple, kwargs: dict[str, Any]) -> str:
    """Why these arguments do not fit the signature; empty if they do."""
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        named = [p for p in signature.parameters.values() if p.name != "self"]
        names = [p.name for p in named if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        takes = f"{name} takes {', '.join(names) or 'no arguments'}"
        takes_any = any(p.kind == p.VAR_KEYWORD for p in named)
        unknown = [] if takes_any else [key for key in kwargs if key not in names]
        if not unknown:
            return f"{error}. {takes}"
        near = nearest_argument(unknown[0], names)
        meant = f", did you mean {near}?" if near else "."
        return f"there is no argument {unknown[0]}{meant} {takes}"
    return ""


def nearest_argument(name: str, among: Sequence[str]) -> str | None:
    """The argument most like this name; also `learning_rate` for `lr`, by its initials."""
    initials = {"".join(word[:1] for word in each.split("_")): each for each in among}
    near = difflib.get_close_matches(name, among, n=1, cutoff=0.5)
    return near[0] if near else initials.get(name)
