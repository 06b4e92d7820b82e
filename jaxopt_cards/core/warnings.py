"""Warnings that point at the user's own line."""

import contextlib
import os
import sys
import warnings
from pathlib import Path

# Decorators made by `contextlib.contextmanager` have their frames in its file.
_PASSED_BY = (str(Path(__file__).parents[1]) + os.sep, contextlib.__file__)


def warn(message: str) -> None:
    """Gives a `RuntimeWarning` at the line outside this package from which the call came.

    A fixed `stacklevel` could point at a decorator, or at a public function that called another.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PASSED_BY):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, RuntimeWarning, stacklevel=level)
