"""Locks between processes, which are released when their process ends in any way."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from jaxopt_cards.core.checks import escaped
from jaxopt_cards.core.errors import NamedOSError

try:
    fcntl: Any = import_module("fcntl")
except ImportError:  # Windows, where nothing is locked
    fcntl = None

WAIT = 60.0  # seconds; work under such a lock takes far less
_POLL = 0.005


class InUseError(NamedOSError):
    """Another process, or another thread of this one, holds the lock."""


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Holds a lock on a folder: against writers if `shared`, otherwise also against readers.

    Does nothing where locks are not available: on Windows, on some network drives, and for a folder
    that does not exist.
    """
    descriptor = None
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
        if descriptor is not None and not _wait(descriptor, shared, WAIT):
            raise InUseError(
                f"{escaped(folder)} has been in use by another process for {WAIT} s", errno.EAGAIN
            )
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


class FileLock:
    """A lock on a file, which is created for it and removed on release."""

    def __init__(self, file: Path):
        """Acquires the lock or raises `InUseError`, which names the process that holds it."""
        self._file = file
        self._stream: IO[str] | None = None
        while fcntl is not None and self._stream is None:
            try:
                stream = file.open("a+")
            except OSError:
                return  # writing to that folder will fail, too, with an error that says why
            if not _wait(stream.fileno(), shared=False, seconds=0):
                with stream:
                    raise InUseError(f"is in use by another process{_owner(stream)}", errno.EAGAIN)
            if _is_at(file, stream):
                self._stream = stream
                with contextlib.suppress(OSError):  # if the disk is full
                    stream.truncate(0)
                    stream.write(f"{os.getpid()}\n")
                    stream.flush()
            else:  # the process that held the lock has just removed the file
                stream.close()

    def release(self) -> None:
        """Releases the lock; calling it again does nothing."""
        if self._stream is not None:
            self._file.unlink(missing_ok=True)
            self._stream.close()
            self._stream = None


def _owner(stream: IO[str]) -> str:
    stream.seek(0)
    owner = stream.read(20).strip()
    return f" (pid {owner})" if owner.isdecimal() else ""


def _is_at(file: Path, stream: IO[str]) -> bool:
    """Whether the open file still has that name."""
    try:
        return os.path.samestat(file.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _wait(descriptor: int, shared: bool, seconds: float) -> bool:
    """Whether the lock was acquired in time, or the file system has no locks."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    last = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= last:
                return False
            time.sleep(_POLL)
        except OSError:  # a file system without locks
            return True
        else:
            return True
