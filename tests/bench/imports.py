"""What importing the package costs, against importing Optax, each in a fresh process."""

import subprocess
import sys

from tests.bench.comparison import Comparison, compare


def comparisons() -> list[Comparison]:
    """The one comparison of imports."""
    ours, optax = (_importing(name) for name in ("jaxopt_cards", "optax"))
    return [compare("import jaxopt_cards", "import optax", ours, optax, rounds=9)]


def _importing(module: str) -> object:
    return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True).returncode
