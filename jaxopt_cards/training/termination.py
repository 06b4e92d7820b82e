"""SIGTERM, which clusters send some seconds before they take a machine back."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Termination:
    """Defers SIGTERM inside a `with` statement, and handles it at the end or in `leave`.

    It then exits with status 143 (128 + SIGTERM), like a process that the signal terminated, but by
    an exception, so that files are closed and exit handlers run. Further signals have no effect.
    A nested statement also handles the signal that the outer one defers, so that one part of a
    longer run ends as soon as possible.
    """

    def __init__(self, *, active: bool):
        """Does nothing unless `active`, or where somebody else handles the signal."""
        # Python lets the main thread alone have handlers. A handler of the user's stays in charge.
        free = active and threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGTERM) if free else None
        self._active = handler is signal.SIG_DFL
        holder = getattr(handler, "__self__", None)
        self._outer = holder if isinstance(holder, Termination) else None
        self._asked = False

    @property
    def asked(self) -> bool:
        """Whether the signal came."""
        return self._asked or (self._outer is not None and self._outer.asked)

    def leave(self) -> None:
        """Leaves the process if asked to."""
        if self.asked:
            raise SystemExit(128 + signal.SIGTERM)

    def __enter__(self) -> Self:
        """Holds the signal back from here on."""
        if self._active:
            signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the process, if asked to, unless an error does already."""
        if self._active:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if error is None:
            self.leave()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._asked = True
