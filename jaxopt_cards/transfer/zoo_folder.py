"""The zoo's folder: names that lead nowhere else, and folders that appear at once."""

import contextlib
import os
import re
import shutil
import stat
import uuid
from pathlib import Path
from typing import Any, BinaryIO

from jaxopt_cards.core.checks import HyperparameterError, escaped
from jaxopt_cards.core.errors import NamedError, NamedOSError
from jaxopt_cards.core.paths import listed
from jaxopt_cards.storage.locks import locked

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def check_name(name: Any) -> None:
    """Raises unless it is the name of a folder, and no path."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        expected = "be at most 100 letters, digits, '.', '_' and '-', the first a letter or digit"
        raise HyperparameterError("name", expected, name)


def check_free(directory: Path, name: Any, replace: bool) -> None:
    """Raises unless a model may be stored under that name."""
    check_name(name)
    taken = os.path.lexists(directory / name)
    if (taken or name in model_names(directory)) and not replace:
        raise _taken(name)
    if taken:
        folder_of(directory, name)


def _taken(name: str) -> HyperparameterError:
    return HyperparameterError("name", "be new, or give replace=True", name)


def model_names(directory: Path) -> list[str]:
    """The models there are; also those of which only the version to be replaced is left."""
    if not directory.is_dir():
        return []
    folders = (path.name for path in directory.iterdir() if path.is_dir())
    names = {folder.removeprefix(".replaced-") for folder in folders}
    return sorted(name for name in names if _NAME.fullmatch(name))


def folder_of(directory: Path, name: str) -> Path:
    """The folder of a model; the former one, if a process was killed while it replaced it."""
    check_name(name)
    folder, former = directory / name, directory / f".replaced-{name}"
    if not os.path.lexists(folder) and os.path.lexists(former):
        folder = former
    if folder.is_symlink():
        raise NamedError(f"{escaped(folder)} is a link, which may lead anywhere")
    if not folder.is_dir():
        there = listed(model_names(directory))
        at = escaped(directory)
        raise NamedError(f"no model {name!r} in {at}; there are{there}")
    return folder


def plain_file(file: Path, most: int) -> BinaryIO:
    """A plain file, opened; neither a link nor a pipe, and not too long."""
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise ValueError("it is not a plain file; a link, for one, may lead anywhere")
        # Asked again of what is opened: it may have been replaced meanwhile.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(file, flags | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise ValueError("there is no such file") from None
    stream = os.fdopen(descriptor, "rb")
    with contextlib.ExitStack() as closing:
        closing.enter_context(stream)
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is not a plain file")
        if about.st_size > most:
            raise ValueError(f"it has {about.st_size:,} bytes, at most {most:,} are allowed")
        closing.pop_all()
    return stream


def read_whole(stream: BinaryIO) -> bytes:
    """All bytes of a plain file; what is asked for is what is there, not what may be there."""
    with stream:
        return stream.read(os.fstat(stream.fileno()).st_size)


def write(directory: Path, name: str, files: dict[str, bytes], replace: bool) -> None:
    """Writes a folder under a temporary name, and renames it when it is whole."""
    part = directory / f".storing-{uuid.uuid4().hex}"
    try:
        part.mkdir(parents=True)
        for file, contents in files.items():
            with (part / file).open("xb") as stream:
                stream.write(contents)
                stream.flush()
                os.fsync(stream.fileno())
        # Once more: another process may have stored a model meanwhile.
        with locked(directory):
            check_free(directory, name, replace)
            if replace:
                _replace(part, directory / name, directory / f".replaced-{name}")
            else:
                _add(part, directory / name)
    except OSError as error:
        where, why = escaped(directory), escaped(error)
        message = f"{name!r} could not be written to {where}: {why}"
        raise NamedOSError(message, error.errno) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _add(part: Path, target: Path) -> None:
    """Gives a folder its name; refused if another writer took it, where there are no locks."""
    try:
        part.rename(target)  # which itself fails if there is a folder that is not empty
    except OSError:
        if os.path.lexists(target):
            raise _taken(target.name) from None
        raise


def _replace(part: Path, target: Path, former: Path) -> None:
    """Gives a folder its name; a folder of that name goes once the new one is in its place."""
    if os.path.lexists(target):
        shutil.rmtree(former, ignore_errors=True)
        target.rename(former)
    part.rename(target)
    shutil.rmtree(former, ignore_errors=True)
