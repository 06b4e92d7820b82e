"""What the first optimizer costs, against importing Optax, each in a fresh process."""

import subprocess
import sys

from tests.bench.comparison import Comparison, compare


def comparisons() -> list[Comparison]:
    """The one comparison of imports."""
    alone = _running("import jaxopt_cards")
    ours, optax = _running("from jaxopt_cards import adam, chain"), _running("import optax")
    return [
        compare("import jaxopt_cards", "import optax", alone, optax, rounds=5),
        compare("from jaxopt_cards import adam, chain", "import optax", ours, optax, rounds=9),
    ]


def _running(code: str) -> object:
    return lambda: subprocess.run([sys.executable, "-c", code], check=True).returncode
