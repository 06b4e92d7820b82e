"""Errors that begin with the name of the public function the user called."""

import difflib
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, Self, TypeVar

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class Named(Exception):
    """An error whose text is `function: message`.

    The code that raises it gives the message alone. The name is added by `declare`, on the way out
    of the public function that the user called: where `adamw` calls `scale_by_adam`, the error
    names `adamw`.
    """

    function = ""
    is_final = False  # whether the name is that of a function the user chose

    def __init__(self, message: str):
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        """The message after the function's name and a colon."""
        return f"{self.function}: {self.message}" if self.function else self.message


class NamedError(Named, ValueError):
    """A wrong value."""


class NamedOSError(Named, OSError):
    """A file that cannot be read or written; its class is the one that Python has for `errno`."""

    def __new__(cls, message: str, errno: int | None = None) -> Self:
        """An object of the class that Python has for this number."""
        kind = OSError if errno is None else type(OSError(errno, ""))
        return super().__new__(cls if issubclass(cls, kind) else _of_kind(cls, kind))

    def __init__(self, message: str, errno: int | None = None):
        super().__init__(message)
        self.errno = errno

    def __reduce__(self) -> Any:
        """For pickling, as multiprocessing does with errors of other processes."""
        return NamedOSError, (self.message, self.errno), {"function": self.function}


@functools.cache
def _of_kind(named: type, kind: type) -> type:
    return type(kind.__name__, (named, kind), {})


class NotFiniteError(Named, FloatingPointError):
    """A computation whose result is not finite."""


class MissingPackageError(Named, ModuleNotFoundError):
    """An optional package that is not installed."""


class ArgumentError(NamedError, TypeError):
    """A call with unknown or missing arguments."""


@contextmanager
def names_kept() -> Iterator[None]:
    """For calls of a function that the user gave, such as `adam`: its errors keep their names."""
    try:
        yield
    except Named as error:
        error.is_final = True
        raise


@contextmanager
def named_as(function: str, *, final: bool = False, replaces: bool = False) -> Iterator[None]:
    """Gives errors this name; `final` ones keep it, unless another context `replaces` it."""
    try:
        yield
    except Named as error:
        if replaces or not error.is_final:
            error.function = function
        error.is_final = error.is_final or final
        raise


def named_stages(name: str, tx: Any, *, keeps_names: bool = False) -> Any:
    """The transformation with `init` and `update` that raise errors under this name.

    These names are final: a trainer does not replace them. With `keeps_names`, this function does
    not replace the final names of an inner transformation either.
    """

    def named(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @functools.wraps(function)
        def stage(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            with named_as(name, final=True, replaces=not keeps_names):
                return function(*args, **kwargs)

        return stage

    return tx._replace(init=named(tx.init), update=named(tx.update))


def function_name(function: Callable) -> str:
    """The public function inside which a function is written."""
    while isinstance(function, functools.partial):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return named.__qualname__.split(".<locals>")[0]


def nearest_argument(name: str, among: Sequence[str]) -> str | None:
    """The argument with the most similar name, or with these initials: `learning_rate` for `lr`."""
    initials = {"".join(word[:1] for word in each.split("_")): each for each in among}
    near = difflib.get_close_matches(name, among, n=1, cutoff=0.5)
    return near[0] if near else initials.get(name)
