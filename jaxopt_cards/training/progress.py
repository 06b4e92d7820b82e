"""Progress: a bar on a terminal, plain lines elsewhere."""

import time
from math import isnan
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 5.0


class Reporter:
    """Shows the epochs as they end."""

    def __init__(self, epochs: int, *, shown: bool):
        """Shows nothing at all unless `shown`."""
        console = Console(quiet=not shown, highlight=False)
        self._console = console
        self._last_line = time.monotonic()
        self._bar: Progress | None = None
        if shown and console.is_terminal:
            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(
                TextColumn("epoch"), *columns, TextColumn("{task.description}"), console=console
            )
            self._bar.add_task("", total=epochs)

    def __enter__(self) -> Self:
        """Starts the bar, if there is one."""
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the terminal in order, also after an error."""
        if self._bar:
            self._bar.stop()

    def epoch(
        self,
        number: int,
        train_loss: float,
        valid_loss: float,
        accuracy: float,
        step: float | None = None,
    ) -> None:
        """Tells of the last evaluation of an epoch; plain lines come every few seconds only."""
        at = "" if step is None else f", step {step:,}"
        if self._bar:
            text = on_validation(valid_loss, accuracy)
            self._bar.update(self._bar.task_ids[0], completed=number, description=text)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._console.print(
                f"epoch {number}{at}: training loss {train_loss:.4f}, "
                f"{on_validation(valid_loss, accuracy)}",
                soft_wrap=True,
            )

    def end(self, text: str) -> None:
        """The last line."""
        self._console.print(text, soft_wrap=True)


def on_validation(loss: float, accuracy: float) -> str:
    """Validation loss, and accuracy where outputs and labels are of classes."""
    return f"validation loss {loss:.4f}" + ("" if isnan(accuracy) else f", accuracy {accuracy:.2%}")
