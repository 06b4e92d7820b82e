"""Reads files in a process with limits, and says what came of it: `python -m tests.fuzz.worker`."""

import contextlib
import gc
import json
import os
import resource
import selectors
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

MAX_BYTES = 2**22  # what readers are called with
BASE = 2**26  # bytes that any file may take beyond three times its size and MAX_BYTES
CHILD = 2**28  # bytes of a process that a reader starts, with its libraries
SECONDS = 1.0  # of the processor, beyond what a valid file takes
_GUARD = 2**31  # bytes at which the system says no
_KILLED_AFTER = 20  # seconds of the processor
_LOST_AFTER = 180  # seconds on the clock


class Outcome(NamedTuple):
    """What came of reading a file."""

    error: str | None  # None where it was read
    kind: str = ""  # the class of the error
    seconds: float = 0.0
    memory: int = 0  # bytes at the most beyond those before
    child: int = 0  # bytes of the processes that it started, if more than any before


class Worker:
    """A process that reads one file after the other; a new one takes its place where it dies."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def read(self, reader: str, path: Path) -> Outcome:
        """What comes of reading a file or folder."""
        if self._process is None:
            command = [sys.executable, "-m", "tests.fuzz.worker"]
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            root = Path(__file__).parents[2]
            self._process = subprocess.Popen(command, **pipes, text=True, cwd=root)
        try:
            self._process.stdin.write(json.dumps([reader, str(path)]) + "\n")
            self._process.stdin.flush()
            answer = self._answer()
        except BrokenPipeError:
            answer = ""
        if answer:
            return Outcome(*json.loads(answer))
        status = self.close()
        return Outcome(f"the process ended with status {status}", "died")

    def _answer(self) -> str:
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            return self._process.stdout.readline() if selector.select(_LOST_AFTER) else ""

    def close(self) -> int | None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is None:
            return None
        if process.poll() is None:
            time.sleep(0.1)  # one that dies needs a moment to be dead
        if process.poll() is None:
            process.kill()
        with process:
            return process.wait()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def fault_of(outcome: Outcome, functions: tuple[str, ...], size: int, usual: float) -> str:
    """What is wrong with an outcome; empty if nothing is.

    A file is read, or refused by a clear error that names the function; in little time and memory.
    """
    if outcome.kind == "died":
        return outcome.error or ""
    if outcome.seconds > usual + SECONDS:
        return f"took {outcome.seconds:.1f} s, and a valid file {usual:.1f} s"
    if (most := BASE + MAX_BYTES + 3 * size) < outcome.memory:
        return f"took {outcome.memory:,} bytes of memory, at most {most:,} are due"
    if outcome.child > CHILD + MAX_BYTES + 3 * size:
        return f"took {outcome.child:,} bytes of memory in a process of its own"
    if outcome.error is None:
        return ""
    if outcome.kind not in ("ValueError", "OSError"):
        return f"raised {outcome.kind}: {outcome.error[:500]}"
    first, *rest = outcome.error.split("\n")
    if not first.startswith(tuple(f"{name}: " for name in functions)):
        return f"raised an error that does not name the function: {outcome.error[:500]}"
    if not all(line.isprintable() and len(line) < 3000 for line in (first, *rest)):
        return f"raised an error with text that is not escaped: {outcome.error[:500]!a}"
    if "MemoryError" in first:
        return f"ran out of memory: {first}"
    return ""


def _status(name: str) -> int:
    """A number of bytes that the system tells of this process."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{name}:")[1].split()[0]) * 1024


def _kind(error: BaseException) -> str:
    """ValueError and OSError as they are, and what is derived from them for our own purposes."""
    ours = type(error).__module__.startswith("jaxopt_cards") or isinstance(error, OSError)
    plain = next((each for each in (ValueError, OSError) if isinstance(error, each)), type(error))
    return (plain if ours else type(error)).__name__


def _seconds() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _measured(read: Any, path: Path) -> Outcome:
    with contextlib.suppress(OSError):  # where it is not allowed, only new peaks are seen
        Path("/proc/self/clear_refs").write_text("5")  # sets back the peak of memory
    before, seconds = _status("VmHWM"), _seconds()
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    most = _status("VmData") + _GUARD
    resource.setrlimit(resource.RLIMIT_DATA, (most, resource.RLIM_INFINITY))
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + _KILLED_AFTER, hard))
    error = None
    try:
        read(path)
    except (Exception, SystemExit) as raised:
        error = raised
    peak = _status("VmHWM") - before
    grown = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    text = None if error is None else str(error)
    kind = "" if error is None else _kind(error)
    # Between fork and exec a process has the memory of this one.
    bytes_of_child = max(1024 * grown - before, 0) if grown > child else 0
    return Outcome(text, kind, _seconds() - seconds, peak, bytes_of_child)


def main() -> None:
    """Reads what standard input asks for."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    from tests.fuzz.readers import READERS

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    gc.freeze()  # so that to collect costs nothing
    for line in sys.stdin:
        name, path = json.loads(line)
        with open(os.devnull, "w") as nothing, contextlib.redirect_stderr(nothing):
            outcome = _measured(READERS[name].read, Path(path))
        gc.collect()
        print(json.dumps(outcome), file=answers, flush=True)


if __name__ == "__main__":
    main()
