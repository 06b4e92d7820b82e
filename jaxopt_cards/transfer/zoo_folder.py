"""The zoo's folder: safe names, and folders that are written atomically."""

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
    """Raises unless it is the name of a folder and not a path."""
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
    """The names of the models; also those with only a version that was being replaced."""
    if not directory.is_dir():
        return []
    folders = (path.name for path in directory.iterdir() if path.is_dir())
    names = {folder.removeprefix(".replaced-") for folder in folders}
    return sorted(name for name in names if _NAME.fullmatch(name))


def folder_of(directory: Path, name: str) -> Path:
    """The folder of a model, or its former version if a process was killed while replacing it."""
    check_name(name)
    folder, former = directory / name, directory / f".replaced-{name}"
    if not os.path.lexists(folder) and os.path.lexists(former):
        folder = former
    if folder.is_symlink():
        raise NamedError(f"{escaped(folder)} is a link; links are not followed")
    if not folder.is_dir():
        there = listed(model_names(directory))
        at = escaped(directory)
        raise NamedError(f"no model {name!r} in {at}; the models are{there}")
    return folder


def plain_file(file: Path, most: int) -> BinaryIO:
    """Opens a regular file; raises for links, pipes and files that are too long."""
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise ValueError("it is not a regular file; links are not followed")
        # Checked again after opening: the file may have been replaced.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(file, flags | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise ValueError("there is no such file") from None
    stream = os.fdopen(descriptor, "rb")
    with contextlib.ExitStack() as closing:
        closing.enter_context(stream)
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is not a regular file")
        if about.st_size > most:
            raise ValueError(f"it has {about.st_size:,} bytes, at most {most:,} are allowed")
        closing.pop_all()
    return stream


def read_whole(stream: BinaryIO) -> bytes:
    """All bytes of a file; allocates its actual size."""
    with stream:
        return stream.read(os.fstat(stream.fileno()).st_size)


def write(directory: Path, name: str, files: dict[str, bytes], replace: bool) -> None:
    """Writes a folder under a temporary name, and renames it when it is complete."""
    part = directory / f".storing-{uuid.uuid4().hex}"
    try:
        part.mkdir(parents=True)
        for file, contents in files.items():
            with (part / file).open("xb") as stream:
                stream.write(contents)
                stream.flush()
                os.fsync(stream.fileno())
        # Checked again: another process may have stored a model with this name.
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
    """Renames a folder; raises if another process took the name, where there are no locks."""
    try:
        part.rename(target)  # fails if the target is a folder that is not empty
    except OSError:
        if os.path.lexists(target):
            raise _taken(target.name) from None
        raise


def _replace(part: Path, target: Path, former: Path) -> None:
    """Renames a folder, and deletes the one that it replaces."""
    if os.path.lexists(target):
        shutil.rmtree(former, ignore_errors=True)
        target.rename(former)
    part.rename(target)
    shutil.rmtree(former, ignore_errors=True)
