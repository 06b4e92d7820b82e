"""Locks between processes, which vanish with their process however it ends."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from jaxopt_cards._checks import escaped

try:
    import fcntl
except ImportError:  # Windows: processes then are on their own
    fcntl: Any = None  # type: ignore[no-redef]

WAIT = 60.0  # seconds; what is done under a lock that is waited for takes far less
_POLL = 0.005


class InUseError(OSError):
    """Another process, or another thread of this one, holds the lock."""


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keeps a folder from being changed, or if `shared` is false even from being read, meanwhile.

    Without a lock where there is none: on Windows, on some network drives, in folders that are not
    there.
    """
    descriptor = None
    try:
        if fcntl is not None:
            with contextlib.suppress(OSError):
                descriptor = os.open(folder, os.O_RDONLY)
        if descriptor is not None and not _wait(descriptor, shared, WAIT):
            raise InUseError(
                errno.EAGAIN, f"{escaped(folder)} has been in use by another process for {WAIT} s"
            )
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


class FileLock:
    """A lock that is held until it is released, on a file that is there no longer than that."""

    def __init__(self, file: Path):
        """Takes the lock at once, or raises `InUseError`, which names the process that has it."""
        self._file = file
        self._stream: IO[str] | None = None
        while fcntl is not None and self._stream is None:
            try:
                stream = file.open("a+")
            except OSError:
                return  # what is to be written there will say why
            if not _wait(stream.fileno(), shared=False, seconds=0):
                with stream:
                    raise InUseError(errno.EAGAIN, f"is in use by another process{_owner(stream)}")
            if _is_at(file, stream):
                self._stream = stream
                with contextlib.suppress(OSError):  # a full disk
                    stream.truncate(0)
                    stream.write(f"{os.getpid()}\n")
                    stream.flush()
            else:  # the one before has just removed it
                stream.close()

    def release(self) -> None:
        """Gives the lock back; more than once does nothing."""
        if self._stream is not None:
            self._file.unlink(missing_ok=True)
            self._stream.close()
            self._stream = None


def _owner(stream: IO[str]) -> str:
    stream.seek(0)
    owner = stream.read(20).strip()
    return f" (pid {owner})" if owner.isdecimal() else ""


def _is_at(file: Path, stream: IO[str]) -> bool:
    """Whether it is this file that has the name."""
    try:
        return os.path.samestat(file.stat(), os.fstat(stream.fileno()))
    except FileNotFoundError:
        return False


def _wait(descriptor: int, shared: bool, seconds: float) -> bool:
    """Whether the lock was had within so many seconds, or there are no locks."""
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    last = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= last:
                return False
            time.sleep(_POLL)
        except OSError:  # of a file system without locks
            return True
        else:
            return True
