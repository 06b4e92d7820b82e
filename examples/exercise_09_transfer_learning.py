"""Exercise 9 of Géron's chapter 11: transfer from digits 0 to 4 to few images of 5 to 9.

python examples/exercise_09_transfer_learning.py --data mnist --seeds 5

The rows to the letter do what the exercise says and nothing else: Adam, early stopping, reused and
frozen layers. The tuned rows use a penalty, decay and other batches. The rows that end in "toolbox"
also use the chapter's other techniques: augmentation of the same few images, batch normalisation,
dropout, a schedule, training the head first, and rates by layer.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from chapter import (
    TOOLBOX,
    Row,
    arguments,
    difference,
    mean_and_deviation,
    moved,
    one_cycle,
    report,
    tasks,
    write_page,
)
from chapter_pictures import draw_curves, draw_errors
from flax import nnx
from row_settings import Made

import jaxopt_cards as jc
from jaxopt_cards import data, layers, transfer


@dataclass(frozen=True)
class Kind:
    """How one kind of rows is trained. One optimizer for all seeds, which share the program."""

    name: str
    on_a: jc.GradientTransformation
    frozen: jc.GradientTransformation  # all hidden layers frozen
    top_two: jc.GradientTransformation
    whole: jc.GradientTransformation
    new: jc.GradientTransformation  # without transfer
    settings_on_a: Mapping[str, Any] = field(default_factory=dict)  # beside those of the chapter


# The exercise leaves the rates open: that on A is as in exercise 8, those on B had the lowest mean
# loss on the validation images of B, of three or four between 1e-4 and 5e-3 for each.
LETTER = Kind(
    "letter",
    on_a=jc.adam(3e-4),
    frozen=jc.adam(2e-3),
    top_two=jc.adam(1e-3),
    whole=jc.adam(2e-4),
    new=jc.adam(2e-4),
)
# All numbers were chosen on the validation images of B: a small penalty and few epochs on A help B,
# and with few images, more trained layers need more weight decay.
TUNED = Kind(
    "tuned",
    on_a=jc.adam(5e-4),
    frozen=jc.adamw(3e-3, weight_decay=0.1),
    top_two=(tuned_b := jc.adamw(1e-3, weight_decay=1.0)),
    whole=tuned_b,
    new=jc.adamw(3e-3, weight_decay=1.0),
    settings_on_a={
        "batch_size": 50,
        "epochs": 12,
        "regularizer": Made(layers.l2, strength=1e-4),
    },
)
EPOCHS_TOOLBOX, EPOCHS_B = 25, 500


def main() -> None:
    """Runs all rows of the exercise for every seed, and reports."""
    options = arguments(__doc__)
    name, task_a, task_b = tasks(options.data)
    rows = {
        row.row: row
        for row in (
            Row("8.2 letter", "digits 0–4", 97.26),
            Row("9.2 letter", "five layers frozen", 64.02),
            Row("9.3 letter", "the same, cached", 61.16),
            Row("9.4 letter", "four layers frozen", 69.10),
            Row("9.5 top two letter", "two unfrozen", 78.09),
            Row("9.5 all letter", "all unfrozen", 91.34),
            Row("scratch letter", "four layers, new", 84.82),
            Row("8.2 tuned", "digits 0–4"),
            Row("9.2 tuned", "five layers frozen"),
            Row("9.3 tuned", "the same, cached"),
            Row("9.4 tuned", "four layers frozen"),
            Row("9.5 top two tuned", "two unfrozen"),
            Row("9.5 all tuned", "all unfrozen"),
            Row("scratch tuned", "four layers, new"),
            Row("8.2 toolbox", "digits 0–4"),
            Row("9.5 all toolbox", "all unfrozen"),
            Row("scratch toolbox", "the same, new"),
        )
    }
    notes: dict[str, list[Caching]] = {"letter": [], "tuned": []}
    for seed in range(options.seeds):
        print(f"Seed {seed}")
        for kind in (LETTER, TUNED):
            notes[kind.name].append(exercise(rows, kind, task_a, task_b, seed))
        best = with_toolbox(rows, name, task_a, task_b, seed)
    settings = {"exercise": 9, "data": name, "seeds": options.seeds}
    table = list(rows.values())
    answers = report(table, settings, options.output, answered(rows, notes["letter"]))
    draw_curves(table, options.output / "learning_curves.png")
    draw_errors(best, task_b.test, options.output / "errors.png", "56789")
    figures = {"9.5 all toolbox: the most certain mistakes among the test images": "errors.png"}
    write_page(options, __doc__, table, settings, figures, answers)


@dataclass(frozen=True)
class Caching:
    """What caching did for one seed."""

    speedup: float  # of an epoch
    seconds: float  # of caching, with compilation
    difference: float  # of the parameters


def answered(rows: Mapping[str, Row], notes: list[Caching]) -> dict[str, str]:
    """The questions of the exercise, answered by the rows to the letter."""
    five, cached, four = (rows[f"{row} letter"] for row in ("9.2", "9.3", "9.4"))
    two, whole, new = (rows[f"{row} letter"] for row in ("9.5 top two", "9.5 all", "scratch"))
    of = {name: np.array([getattr(note, name) for note in notes]) for name in vars(notes[0])}
    return {
        "9.2, how long does it take?": (
            f"{mean_and_deviation(five.seconds, 2)} s for {np.mean(five.epochs):.0f} epochs, "
            f"without compilation. Test accuracy is {mean_and_deviation(five.accuracy, 2)} %."
        ),
        "9.3, how much faster is it with cached layers?": (
            f"An epoch is {np.median(of['speedup']):.1f} times as fast: training takes "
            f"{mean_and_deviation(cached.seconds, 2)} s. Caching the outputs for all images takes "
            f"{np.median(of['seconds']):.2f} s before, with compilation. The parameters differ by "
            f"{of['difference'].max():.1e} at most, the rounding of float32."
        ),
        "9.4, is it better with four layers than with five?": (
            f"Test accuracy with four layers is {difference(four, five)}."
        ),
        "9.5, can you do even better?": (
            f"When the top two of the four layers are unfrozen, test accuracy becomes "
            f"{difference(two, four)}; when all are, it becomes {difference(whole, two)}. Compared "
            f"with the same network trained from scratch, it is {difference(whole, new)}. With all "
            f"of the chapter's techniques it is "
            f"{mean_and_deviation(rows['9.5 all toolbox'].accuracy, 2)} %."
        ),
    }


def exercise(
    rows: dict[str, Row], kind: Kind, task_a: data.Splits, task_b: data.Splits, seed: int
) -> Caching:
    """8.2, and 9.1 to 9.5 with its network; then from scratch."""
    model = layers.MLP(task_a.train.x.shape[1], 5, rngs=nnx.Rngs(seed))
    row = rows[f"8.2 {kind.name}"]
    base = row.train(model, kind.on_a, task_a, seed, **kind.settings_on_a).model
    caching = transfer_frozen(rows, kind, base, task_b, seed)
    transfer_four(rows, kind, base, task_b, seed)
    # On the same few images without transfer.
    new = layers.MLP(task_b.train.x.shape[1], 5, units=(100,) * 4, rngs=nnx.Rngs(seed + 3000))
    rows[f"scratch {kind.name}"].train(new, kind.new, task_b, seed)
    return caching


def transfer_frozen(
    rows: dict[str, Row], kind: Kind, base: nnx.Module, task: data.Splits, seed: int
) -> Caching:
    """9.1 to 9.3: all hidden layers reused and frozen, then the same from cached features."""
    model = transfer.replace_head(base, 5, rngs=nnx.Rngs(seed + 1000))
    freeze = transfer.freeze("hidden")
    frozen = rows[f"9.2 {kind.name}"].train(model, kind.frozen, task, seed, trainable=freeze)

    started = time.perf_counter()
    cached = data.Splits(*(transfer.cache_features(model, 5, split) for split in task))
    caching = time.perf_counter() - started
    head = rows[f"9.3 {kind.name}"].train(model.logits, kind.frozen, cached, seed)

    pairs = zip(jax.tree.leaves(frozen.model.logits), jax.tree.leaves(head.model), strict=True)
    return Caching(
        speedup=float(np.median(frozen.history.seconds) / np.median(head.history.seconds)),
        seconds=caching,
        difference=max(float(abs(whole - alone).max()) for whole, alone in pairs),
    )


def transfer_four(
    rows: dict[str, Row], kind: Kind, base: nnx.Module, task: data.Splits, seed: int
) -> None:
    """9.4 and 9.5: four hidden layers reused, first frozen, then unfrozen from the top down."""
    model = layers.MLP(task.train.x.shape[1], 5, units=(100,) * 4, rngs=nnx.Rngs(seed + 2000))
    model, _ = transfer.restore(model, base, "hidden[1234]")
    for row, tx, frozen in (
        ("9.4", kind.frozen, {"trainable": transfer.freeze("hidden")}),
        ("9.5 top two", kind.top_two, {"trainable": transfer.freeze("hidden[12]")}),
        ("9.5 all", kind.whole, {}),
    ):
        model = rows[f"{row} {kind.name}"].train(model, tx, task, seed, **frozen).model


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
