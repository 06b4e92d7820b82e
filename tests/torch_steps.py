"""`python -m tests.torch_steps`: where PyTorch's optimizers are after the steps of the test.

The rows are those of docs/guides/from_pytorch.md; the result is committed, so that the tests need
no PyTorch.
"""

import json
import re
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
FILE = Path(__file__).with_suffix(".json")


def rows():
    """PyTorch's call and ours, of each row that is said to take the same steps."""
    text = (ROOT / "docs" / "guides" / "from_pytorch.md").read_text()
    table = text.split("## Optimizers")[1].split("Three pairs")[0]
    return re.findall(r"^\| `(\w+\(.*?\))` \| `(.*?)` \|", table, re.MULTILINE)


def gradients():
    """Of 20 steps with 5 weights, all of which are 1 at first."""
    return np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)


def main():
    """Writes the file."""
    import torch

    found = {"torch": torch.__version__}
    for call, _ in rows():
        weights = torch.ones(5, requires_grad=True)
        made = f"torch.optim.{call.replace('(', '([weights], ', 1)}"
        optimizer = eval(made, {"torch": torch, "weights": weights})
        for gradient in gradients():
            weights.grad = torch.tensor(gradient)
            optimizer.step()
        found[call] = weights.detach().tolist()
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
