"""Installs a wheel, without extras, in an environment of its own, and uses it there.

python tests/installed.py dist/jaxopt_cards-*.whl
"""

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
COMMANDS = ["list", "show adam", "race bowl sgd:lr=0.1", "--version"]
# What needs a package that an extra installs, and the extra that the error must name.
WITHOUT_EXTRAS = """
import functools
import jaxopt_cards as jc
from jaxopt_cards import cards, data, layers, pictures, training, transfer

assert "adam" in cards.catalogue() and "scale_by_adam" in str(cards.describe(jc.adam(0.1)))
mlp = functools.partial(layers.MLP, 64, 10)
space = {"learning_rate": [1e-3, 1e-2], "dropout_rate": [0.1, 0.3]}
training.random_search(mlp, jc.adam, space, train=data.digits().train, candidates=2, epochs=1)
for call, extra in {
    lambda: cards.picture(None, "adam"): "examples",
    lambda: data.augment((8, 8), flip=True): "examples",
    lambda: pictures.style(): "examples",
    lambda: training.report(None, "report.html", figures={"a": lambda: None}): "examples",
    lambda: transfer.from_keras("a.h5"): "transfer",
    lambda: transfer.from_safetensors("a.safetensors"): "transfer",
}.items():
    try:
        call()
    except ImportError as error:
        print(error)
        assert f"pip install 'jaxopt_cards[{extra}]'" in str(error)
    else:
        raise AssertionError(f"an optional package is installed: {extra}")
"""


def main(wheel: str) -> None:
    """Runs the README's first example, the cards, the command line, and what needs an extra."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}

        def run(program, *arguments):
            subprocess.run(
                [Path(folder, "bin", program), *arguments], cwd=folder, env=environment, check=True
            )

        run("python", "-m", "pip", "install", "--quiet", Path(wheel).resolve())
        run("python", "-c", re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)[1])
        run("python", "-c", WITHOUT_EXTRAS)
        for command in COMMANDS:
            run("jaxopt-cards", *command.split())


if __name__ == "__main__":
    main(sys.argv[1])
