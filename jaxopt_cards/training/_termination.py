"""SIGTERM, which clusters send some seconds before they take a machine back."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Termination:
    """Holds SIGTERM back inside a `with` statement, and obeys it at the end.

    It then exits with status 143, which is 128 + SIGTERM, as a process does that was ended by it;
    but as an exception, so that files are closed and what others registered for the end is done.
    """

    def __init__(self, *, active: bool):
        """Does nothing unless `active`, or where somebody else handles the signal."""
        # Python lets the main thread alone have handlers. A handler of the user's stays in charge.
        self._active = (
            active
            and threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        )
        self.asked = False

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
        if self.asked and error is None:
            raise SystemExit(128 + signal.SIGTERM)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
