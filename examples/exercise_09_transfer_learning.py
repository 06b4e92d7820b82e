"""Exercise 9: train on digits 0 to 4, then transfer to 5 to 9 with few images a class.

python examples/exercise_09_transfer_learning.py --data mnist --seeds 5
"""

import time

import jax
import numpy as np
from chapter import RATE_A, Row, arguments, report, tasks, train_on_a
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, transfer

# Chosen on the validation images: decay holds a network in check that sees few images.
RATE, DECAY = 1e-3, 0.1
OPTIMIZER_B = jc.adamw(RATE, weight_decay=DECAY)


def main() -> None:
    """Runs all rows of the exercise for every seed, and reports."""
    options = arguments(__doc__)
    name, task_a, task_b = tasks(options.data)
    rows = {
        row.row: row
        for row in (
            Row("8.2", "digits 0–4", 97.26),
            Row("9.2", "five layers frozen", 64.02),
            Row("9.3", "the same, cached", 61.16),
            Row("9.4", "four layers frozen", 69.10),
            Row("9.5 top two", "two unfrozen", 78.09),
            Row("9.5 all", "all unfrozen", 91.34),
            Row("scratch", "four layers, new", 84.82),
        )
    }
    notes = []
    for seed in range(options.seeds):
        print(f"Seed {seed}")
        base = train_on_a(rows["8.2"], task_a, seed).model
        notes.append(transfer_frozen(rows, base, task_b, seed))
        transfer_four(rows, base, task_b, seed)
        from_scratch(rows, task_b, seed)
    settings = {
        "exercise": 9,
        "data": name,
        "seeds": options.seeds,
        "optimizer on A": f"adam({RATE_A})",
        "optimizer on B": f"adamw({RATE}, weight_decay={DECAY})",
    }
    report(list(rows.values()), settings, options.output)
    speedups, differences, caching = zip(*notes, strict=True)
    print(
        f"9.3 is 9.2, only faster: {np.median(speedups):.1f} times an epoch, after "
        f"{np.median(caching):.2f} s of caching; parameters differ by {max(differences):.1e} at "
        "most, the rounding of float32."
    )


def transfer_frozen(
    rows: dict[str, Row], base: nnx.Module, task: data.Splits, seed: int
) -> tuple[float, float, float]:
    """9.1 to 9.3: all hidden layers reused and frozen; then the same from cached features.

    Returns how many times faster the cached epoch is, by how much the parameters differ, and the
    seconds that caching took.
    """
    model = transfer.replace_head(base, 5, rngs=nnx.Rngs(seed + 1000))
    freeze = transfer.freeze("hidden")
    frozen = rows["9.2"].train(model, OPTIMIZER_B, task, seed, trainable=freeze)

    started = time.perf_counter()
    cached = data.Splits(*(transfer.cache_features(model, 5, split) for split in task))
    caching = time.perf_counter() - started
    head = rows["9.3"].train(model.logits, OPTIMIZER_B, cached, seed)

    pairs = zip(jax.tree.leaves(frozen.model.logits), jax.tree.leaves(head.model), strict=True)
    difference = max(float(abs(whole - alone).max()) for whole, alone in pairs)
    speedup = np.median(frozen.history.seconds) / np.median(head.history.seconds)
    return float(speedup), difference, caching


def transfer_four(rows: dict[str, Row], base: nnx.Module, task: data.Splits, seed: int) -> None:
    """9.4 and 9.5: four hidden layers reused, first frozen, then unfrozen from the top."""
    model = layers.MLP(task.train.x.shape[1], 5, units=(100,) * 4, rngs=nnx.Rngs(seed + 2000))
    model, _ = transfer.restore(model, base, "hidden[1234]")
    for row, trainable in (
        ("9.4", transfer.freeze("hidden")),
        ("9.5 top two", transfer.freeze("hidden[12]")),
        ("9.5 all", nnx.Param),
    ):
        model = rows[row].train(model, OPTIMIZER_B, task, seed, trainable=trainable).model


def from_scratch(rows: dict[str, Row], task: data.Splits, seed: int) -> None:
    """What the same few images give without any transfer."""
    model = layers.MLP(task.train.x.shape[1], 5, units=(100,) * 4, rngs=nnx.Rngs(seed + 3000))
    rows["scratch"].train(model, OPTIMIZER_B, task, seed)


if __name__ == "__main__":
    main()
