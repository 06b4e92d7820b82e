"""Exercise 8 of Géron's chapter 11: a deep network for digits 0 to 4.

python examples/exercise_08_deep_learning.py --data mnist --seeds 5

The rows to the letter do what the exercise says and nothing else: five layers, Adam and early
stopping; then the same with batch normalisation, and with dropout. The other rows are tuned.
Hyperparameters are searched once, by validation; each row is then trained for every seed, and
evaluated once on the test set. If the command is killed, the same command resumes from the last
checkpoint. The models are stored in DIR/DATA/models/ROW/SEED;
`orbax.checkpoint.StandardCheckpointer().restore(path)` reads them.
"""

import functools
import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import orbax.checkpoint as ocp
import scipy.stats
from chapter import (
    Row,
    accuracy_of,
    arguments,
    difference,
    mean_and_deviation,
    moved,
    points_apart,
    report,
    tasks,
    write_page,
)
from chapter_pictures import draw_curves, draw_losses
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training

# Performance scheduling: halve the rate after three epochs without improvement.
PLATEAU = jc.reduce_on_plateau(factor=0.5, patience=3)
# To the letter: the network, the batches and the early stopping of the chapter. The exercise leaves
# the rate open: of 1e-4, 3e-4 and 1e-3, this gave the lowest validation loss.
LETTER: dict[str, Any] = {"learning_rate": 3e-4}
HALF_DROPPED = {"dropout_rate": 0.5, "input_dropout_rate": 0.5}
RATES = scipy.stats.loguniform(3e-4, 3e-3)
SHAPES = [(100,) * 5, (200,) * 4, (300,) * 3]
DROPOUT = {
    "dropout_rate": scipy.stats.uniform(0.05, 0.3),  # 0.05 to 0.35
    "input_dropout_rate": scipy.stats.uniform(0.05, 0.3),
    "batch_norm": [False, True],
}
SPACES: dict[str, dict[str, Any]] = {
    "8.3": {
        "units": SHAPES,
        "activation": ["elu", "relu", "leaky_relu"],
        "batch_size": [20, 50, 100],
        "learning_rate": RATES,
    },
    "8.4 tuned": {
        "batch_norm": [True],
        "batch_norm_momentum": [0.9, 0.99],
        "units": SHAPES,
        "batch_size": [20, 50],  # the smaller the batch, the more its statistics regularise
        "learning_rate": RATES,
    },
    "8.5 tuned": {"units": SHAPES, "batch_size": [50, 100], "learning_rate": RATES} | DROPOUT,
}


def main() -> None:
    """Searches, trains every row for every seed, and reports."""
    options = arguments(__doc__)
    name, task, _ = tasks(options.data)
    folder = options.output.absolute() / name
    found = searched(task, folder, quick=name == "digits")
    by_hand = {"plateau": PLATEAU, "learning_rate": 5e-4}
    normalised = {"batch_norm": True, "learning_rate": 1e-3}
    dropped = {"dropout_rate": 0.1, "input_dropout_rate": 0.3, "activation": "relu"}
    dropped |= {"batch_size": 50, "learning_rate": 1e-3}
    tuned = {row: {"plateau": PLATEAU} | best for row, best in found.items()}
    rows = [
        (Row("8.2 letter", "Adam, early stopping", 97.26), LETTER),
        (Row("8.4 letter", "and batch normalisation", 99.42), LETTER | {"batch_norm": True}),
        (Row("8.5 letter", "and dropout on every layer", 98.62), LETTER | HALF_DROPPED),
        (Row("8.2 tuned", "a rate that falls"), by_hand),
        (Row("8.3 tuned", "by random search"), tuned["8.3"]),
        (Row("8.4 by hand", "batch normalisation"), by_hand | normalised),
        (Row("8.4 tuned", "the same, by random search"), tuned["8.4 tuned"]),
        (Row("8.5 by hand", "dropout"), by_hand | dropped),
        (Row("8.5 tuned", "the same, by random search"), tuned["8.5 tuned"]),
        (Row("augmented", "images moved and bent"), tuned["8.4 tuned"] | {"augment": moved(name)}),
    ]
    for seed in range(options.seeds):
        print(f"Seed {seed}")
        for row, chosen in rows:
            train(row, chosen, task, seed, folder)
    settings = {"exercise": 8, "data": name, "seeds": options.seeds, "tuned": found}
    results = [row for row, _ in rows]
    by_name = {row.row: row for row in results}
    plain, normalised, dropped = (by_name[f"{part} letter"] for part in ("8.2", "8.4", "8.5"))
    answers = {
        "8.3, what does tuning bring?": (
            f"Compared with 8.2 letter, test accuracy is {difference(by_name['8.3 tuned'], plain)}."
        ),
        "8.4, does it converge faster? is the model better?": convergence(plain, normalised),
        "8.5, does it overfit? does dropout help?": overfitting(
            plain, dropped, task, options.output / "overfitting.png"
        )
        + f" With dropout as tuned in 8.5, it is {difference(by_name['8.5 tuned'], plain)}.",
    }
    answers = report(results, settings, options.output, answers)
    draw_curves(results, options.output / "learning_curves.png")
    draw_losses(results, options.output / "losses.png")
    draw_convergence(plain, normalised, options.output / "convergence.png")
    figures = {
        "8.4: validation accuracy by epoch and by second": "convergence.png",
        "8.5: accuracy on training and validation images": "overfitting.png",
        "Losses by epoch": "losses.png",
    }
    write_page(options, __doc__, results, settings, figures, answers)


def searched(task: data.Splits, folder: Path, *, quick: bool) -> dict[str, dict[str, Any]]:
    """The best hyperparameters of each space, from this or an earlier call."""
    folder.mkdir(parents=True, exist_ok=True)
    budget = {"candidates": 2, "epochs": 4} if quick else {"candidates": 12, "epochs": 30}
    # Without halving, which would drop regularised candidates, since they learn slowly.
    budget["patience"] = 8
    found = {}
    for row, space in SPACES.items():
        path = folder / f"tuned_{row.replace(' ', '_')}.json"
        # SciPy's distributions are compared by their arguments.
        asked = {key: str(getattr(values, "args", values)) for key, values in space.items()}
        asked |= {key: str(value) for key, value in budget.items()}
        if path.exists() and (earlier := json.loads(path.read_text())).get("asked") == asked:
            found[row] = earlier["best"]
            continue
        print(f"{row}: searching", flush=True)
        result = training.random_search(
            functools.partial(layers.MLP, task.train.x.shape[1], 5),
            jc.adam,
            space,
            train=task.train,
            plateau=PLATEAU,
            progress=False,
            **budget,
        )
        print(result)
        result.save(folder / f"search_{row.replace(' ', '_')}.csv")
        found[row] = result.best
        whole = path.with_suffix(".part")
        told = {"asked": asked, "best": result.best}
        whole.write_text(json.dumps(told, indent=1, default=float) + "\n")
        whole.replace(path)
    return found


def train(row: Row, chosen: dict[str, Any], task: data.Splits, seed: int, folder: Path) -> None:
    """Trains one row for one seed, with checkpoints, and stores the model."""
    chosen = dict(chosen)
    fitted = {key: chosen.pop(key) for key in ("batch_size", "augment", "plateau") if key in chosen}
    tx = adam(chosen.pop("learning_rate"))
    model = layers.MLP(task.train.x.shape[1], 5, rngs=nnx.Rngs(seed), **chosen)
    place = Path(row.row.replace(" ", "_"), str(seed))
    result = row.train(
        model,
        tx,
        task,
        seed,
        checkpoints=folder / "checkpoints" / place,
        **fitted,
    )
    with ocp.StandardCheckpointer() as saver:
        parameters = nnx.to_pure_dict(nnx.state(result.model, (nnx.Param, nnx.BatchStat)))
        saver.save(folder / "models" / place, parameters, force=True)


def level(plain: Row) -> float:
    """A validation accuracy that shows speed: with twice the errors that are left in the end."""
    kept = [result.history.valid_accuracy[result.best_epoch - 1] for result in plain.results]
    return float(1 - 2 * (1 - np.mean(kept)))


def reached(row: Row, accuracy: float) -> tuple[float, float]:
    """The mean number of epochs, and of seconds, until validation accuracy has this value.

    Infinite if a seed never has it.
    """
    epochs, seconds = [], []
    for history in row.histories:
        there = np.flatnonzero(history.valid_accuracy >= accuracy)
        epochs.append(there[0] + 1 if len(there) else np.inf)
        seconds.append(history.seconds[: there[0] + 1].sum() if len(there) else np.inf)
    return float(np.mean(epochs)), float(np.mean(seconds))


def convergence(plain: Row, normalised: Row) -> str:
    """The answer of 8.4."""
    goal = level(plain)
    (epochs, seconds), (epochs_with, seconds_with) = reached(plain, goal), reached(normalised, goal)
    by_epoch = "faster" if epochs_with < epochs else "not faster"
    by_second = "faster" if seconds_with < seconds else "not faster"
    return (
        f"A validation accuracy of {100 * goal:.2f} % is reached after {epochs_with:.1f} epochs "
        f"with batch normalisation and {epochs:.1f} without: {by_epoch} by epoch. It takes "
        f"{seconds_with:.1f} s with and {seconds:.1f} s without: {by_second} by the clock. Test "
        f"accuracy is {mean_and_deviation(normalised.accuracy, 2)} % with and "
        f"{mean_and_deviation(plain.accuracy, 2)} % without: {difference(normalised, plain)}."
    )


def draw_convergence(plain: Row, normalised: Row, path: Path) -> None:
    """Draws validation accuracy by epoch and by second: seeds, their mean, and the level of 8.4."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    for row, colour, label in (
        (plain, "#0072b2", "without batch normalisation"),
        (normalised, "#d55e00", "with batch normalisation"),
    ):
        shortest = min(row.epochs)
        means = [
            np.mean([values[:shortest] for values in of_seeds], axis=0)
            for of_seeds in (
                [history.valid_accuracy for history in row.histories],
                [history.seconds.cumsum() for history in row.histories],
            )
        ]
        for axis, by_second in zip(axes, (False, True), strict=True):
            for history in row.histories:
                epochs = np.arange(1, len(history.seconds) + 1)
                places = history.seconds.cumsum() if by_second else epochs
                axis.plot(places, 100 * history.valid_accuracy, lw=0.7, alpha=0.25, color=colour)
            places = means[1] if by_second else np.arange(1, shortest + 1)
            axis.plot(places, 100 * means[0], lw=2, color=colour, label=label)
    goal = 100 * level(plain)
    for axis, what in zip(axes, ("epoch", "second of training"), strict=True):
        axis.axhline(goal, color="black", lw=0.8, ls="--")
        axis.set_xscale("log")
        axis.set_xlabel(what)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("validation accuracy, %")
    axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    figure.suptitle(f"8.4 to the letter: seeds, and their mean in bold; dashed: {goal:.2f} %")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def overfitting(plain: Row, dropped: Row, task: data.Splits, path: Path) -> str:
    """The answer of 8.5, and its picture."""
    kept = {
        what: [
            [100 * accuracy_of(result.model, examples) for examples in task[:2]]
            for result in row.results
        ]
        for what, row in (("without dropout", plain), ("with dropout", dropped))
    }
    draw_overfitting(kept, path)
    (train, valid), (train_with, valid_with) = (np.transpose(pairs) for pairs in kept.values())
    gap, gap_with = np.mean(train - valid), np.mean(train_with - valid_with)
    overfits = "overfits" if gap > 0.1 else "does not overfit"
    smaller = "smaller" if gap_with < gap else "no smaller"
    return (
        f"The kept network has {np.mean(train):.2f} % of the training images right and "
        f"{np.mean(valid):.2f} % of the validation images, {gap:.2f} points apart: it {overfits}. "
        f"With dropout of one half on every layer, it has {np.mean(train_with):.2f} % and "
        f"{np.mean(valid_with):.2f} %: the distance of {gap_with:.2f} points is {smaller}, and "
        f"validation accuracy is {points_apart(valid_with, valid)}. Test accuracy is "
        f"{mean_and_deviation(dropped.accuracy, 2)} % with and "
        f"{mean_and_deviation(plain.accuracy, 2)} % without: {difference(dropped, plain)}."
    )


def draw_overfitting(kept: dict[str, list[list[float]]], path: Path) -> None:
    """Draws training and validation accuracy of the kept networks, a line a seed."""
    figure, axis = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    for (what, pairs), colour in zip(kept.items(), ("#0072b2", "#d55e00"), strict=True):
        for number, pair in enumerate(pairs):
            label = what if number == 0 else None
            axis.plot((0, 1), pair, "o-", ms=4, lw=1, alpha=0.7, color=colour, label=label)
    axis.set_xticks((0, 1), ("training images", "validation images"))
    axis.set_xlim(-0.4, 1.4)
    axis.set_ylabel("accuracy, %")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    figure.suptitle("8.5: a line that falls is overfitting", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


@functools.cache  # one object for all seeds, which then share the compiled program
def adam(rate: float) -> jc.GradientTransformation:
    """Adam with a learning rate."""
    return jc.adam(rate)


if __name__ == "__main__":
    main()
