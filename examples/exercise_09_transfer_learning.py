"""Exercise 9 of Géron's chapter 11: transfer from digits 0 to 4 to few images of 5 to 9.

python examples/exercise_09_transfer_learning.py --data mnist --seeds 5

The rows that end in "toolbox" also use the chapter's other techniques: augmentation of the same few
images, batch normalisation, dropout, a schedule, training the head first, and rates by layer.
"""

import time

import jax
import numpy as np
from chapter import (
    TOOLBOX,
    Row,
    arguments,
    draw_errors,
    moved,
    one_cycle,
    report,
    tasks,
    write_page,
)
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, transfer

# One object for all seeds, which share the compiled program. All numbers were chosen on the
# validation images of B, those for A in row 9.2: a small penalty and few epochs on A help B.
RATE_A, L2, BATCH_A, EPOCHS_A = 5e-4, 1e-4, 50, 12
OPTIMIZER_A = jc.adam(RATE_A)
ON_A = {"batch_size": BATCH_A, "epochs": EPOCHS_A, "regularizer": layers.l2(L2)}
# With few images, more trained layers need more weight decay.
RATE_FROZEN, DECAY_FROZEN = 3e-3, 0.1
OPTIMIZER_FROZEN = jc.adamw(RATE_FROZEN, weight_decay=DECAY_FROZEN)
RATE, DECAY = 1e-3, 1.0
OPTIMIZER_B = jc.adamw(RATE, weight_decay=DECAY)
RATE_NEW, DECAY_NEW = 3e-3, 1.0
OPTIMIZER_NEW = jc.adamw(RATE_NEW, weight_decay=DECAY_NEW)
EPOCHS_TOOLBOX, EPOCHS_B = 25, 500


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
            Row("8.2 toolbox", "digits 0–4", None),
            Row("9.5 all toolbox", "all unfrozen", 91.34),
            Row("scratch toolbox", "the same, new", 84.82),
        )
    }
    notes = []
    for seed in range(options.seeds):
        print(f"Seed {seed}")
        model = layers.MLP(task_a.train.x.shape[1], 5, rngs=nnx.Rngs(seed))
        base = rows["8.2"].train(model, OPTIMIZER_A, task_a, seed, **ON_A).model
        notes.append(transfer_frozen(rows, base, task_b, seed))
        transfer_four(rows, base, task_b, seed)
        from_scratch(rows, task_b, seed)
        best = with_toolbox(rows, name, task_a, task_b, seed)
    settings = {
        "exercise": 9,
        "data": name,
        "seeds": options.seeds,
        "on A": f"adam({RATE_A}), l2({L2}), batches of {BATCH_A}, {EPOCHS_A} epochs at most",
        "frozen on B": f"adamw({RATE_FROZEN}, weight_decay={DECAY_FROZEN})",
        "on B": f"adamw({RATE}, weight_decay={DECAY})",
        "scratch": f"adamw({RATE_NEW}, weight_decay={DECAY_NEW})",
        "toolbox": {key: str(value) for key, value in TOOLBOX.items()},
    }
    report(list(rows.values()), settings, options.output)
    draw_errors(best, task_b.test, options.output / "errors.png", "56789")
    speedups, differences, caching, whole = zip(*notes, strict=True)
    conclusion = (
        f"9.3 is 9.2, only faster: {np.median(speedups):.1f} times an epoch, after "
        f"{np.median(caching):.2f} s of caching; with these, {np.median(whole):.1f} times in all. "
        f"Parameters differ by {max(differences):.1e} at most, the rounding of float32."
    )
    print(conclusion)
    figures = {"9.5 all toolbox: the most certain mistakes among the test images": "errors.png"}
    write_page(options, __doc__, list(rows.values()), settings, figures, conclusion)


def transfer_frozen(
    rows: dict[str, Row], base: nnx.Module, task: data.Splits, seed: int
) -> tuple[float, float, float, float]:
    """9.1 to 9.3: all hidden layers reused and frozen, then the same from cached features.

    Returns the speedup of a cached epoch, the difference of the parameters, the seconds for
    caching, and the speedup of the run including them.
    """
    model = transfer.replace_head(base, 5, rngs=nnx.Rngs(seed + 1000))
    freeze = transfer.freeze("hidden")
    frozen = rows["9.2"].train(model, OPTIMIZER_FROZEN, task, seed, trainable=freeze)

    started = time.perf_counter()
    cached = data.Splits(*(transfer.cache_features(model, 5, split) for split in task))
    caching = time.perf_counter() - started
    head = rows["9.3"].train(model.logits, OPTIMIZER_FROZEN, cached, seed)

    pairs = zip(jax.tree.leaves(frozen.model.logits), jax.tree.leaves(head.model), strict=True)
    difference = max(float(abs(whole - alone).max()) for whole, alone in pairs)
    speedup = np.median(frozen.history.seconds) / np.median(head.history.seconds)
    return float(speedup), difference, caching, frozen.seconds / (head.seconds + caching)


def transfer_four(rows: dict[str, Row], base: nnx.Module, task: data.Splits, seed: int) -> None:
    """9.4 and 9.5: four hidden layers reused, first frozen, then unfrozen from the top down."""
    model = layers.MLP(task.train.x.shape[1], 5, units=(100,) * 4, rngs=nnx.Rngs(seed + 2000))
    model, _ = transfer.restore(model, base, "hidden[1234]")
    for row, tx, trainable in (
        ("9.4", OPTIMIZER_FROZEN, transfer.freeze("hidden")),
        ("9.5 top two", OPTIMIZER_B, transfer.freeze("hidden[12]")),
        ("9.5 all", OPTIMIZER_B, nnx.Param),
    ):
        model = rows[row].train(model, tx, task, seed, trainable=trainable).model


def from_scratch(rows: dict[str, Row], task: data.Splits, seed: int) -> None:
    """Trains on the same few images without transfer."""
    model = layers.MLP(task.train.x.shape[1], 5, units=(100,) * 4, rngs=nnx.Rngs(seed + 3000))
    rows["scratch"].train(model, OPTIMIZER_NEW, task, seed)


def with_toolbox(
    rows: dict[str, Row], name: str, task_a: data.Splits, task_b: data.Splits, seed: int
) -> nnx.Module:
    """Uses all of the chapter's techniques for A, for the transfer to B, and for B alone."""
    augment = moved(name, strength=1.5)  # chosen on the validation images of both tasks
    model = layers.MLP(task_a.train.x.shape[1], 5, **TOOLBOX, rngs=nnx.Rngs(seed))
    cycle = one_cycle(2e-3, len(task_a.train.y), 100, EPOCHS_TOOLBOX)
    settings = {"batch_size": 100, "epochs": EPOCHS_TOOLBOX, "patience": None, "augment": augment}
    base = rows["8.2 toolbox"].train(model, cycle, task_a, seed, **settings).model

    few = {"batch_size": 50, "epochs": EPOCHS_B, "augment": augment}
    tuned = rows["9.5 all toolbox"].fine_tune(
        transfer.replace_head(base, 5, rngs=nnx.Rngs(seed + 1000)),
        task_b,
        seed,
        freeze_epochs=10,
        base_lr=4e-3,
        lr_mult=1.5,
        **few,
    )

    model = layers.MLP(task_b.train.x.shape[1], 5, **TOOLBOX, rngs=nnx.Rngs(seed + 3000))
    cycle = one_cycle(2e-3, len(task_b.train.y), 50, EPOCHS_B)
    rows["scratch toolbox"].train(model, cycle, task_b, seed, patience=None, **few)
    return tuned.model


if __name__ == "__main__":
    main()
