"""Pretraining without labels: the gain of each method for different numbers of labels.

python examples/pretraining.py --data mnist --seeds 5
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from chapter import PATIENCE, arguments, images, mean_and_deviation, surroundings
from flax import nnx
from rich.console import Console
from rich.table import Table

import jaxopt_cards as jc
from jaxopt_cards import data, layers, reports, training, transfer

UNITS = {"digits": (100,) * 3, "mnist": (200,) * 3}
ACTIVATIONS = ("elu", "logistic")
# Labels per class. Géron's ratio of 30 validation images to 100 labels, but at least 5.
LABELS = {"digits": (5, 10, 20, 50, 100), "mnist": (2, 5, 10, 30, 100)}
UNLABELLED = 30_000  # images at most to pretrain on
PRETRAINING_EPOCHS = {"digits": 100, "mnist": 5}
EPOCHS, BATCH = 200, 20
# One object for all runs, which share the compiled programs.
OPTIMIZER = jc.adam(1e-3)
OPTIMIZER_RBM = jc.chain(
    jc.add_decayed_weights(2e-4, mask=lambda params: jc.select(params, "kernel")),
    jc.momentum(0.1, jc.schedules.momentum_warmup(0.5, 0.9, transition_steps=100)),
)
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7")
MARKERS = "osD^v"


def scratch(model: layers.MLP, splits: data.Splits, epochs: int, seed: int) -> layers.MLP:
    """The network without pretraining."""
    return model


def autoencoder(model: layers.MLP, splits: data.Splits, epochs: int, seed: int) -> layers.MLP:
    """Stacked denoising autoencoders."""
    return transfer.pretrain_autoencoder(
        model, OPTIMIZER, splits.train.x, epochs=epochs, seed=seed, progress=False
    ).model


def boltzmann(model: layers.MLP, splits: data.Splits, epochs: int, seed: int) -> layers.MLP:
    """Stacked restricted Boltzmann machines."""
    return transfer.pretrain_rbm(
        model, OPTIMIZER_RBM, splits.train.x, epochs=epochs, seed=seed, progress=False
    ).model


def corrupted(model: layers.MLP, splits: data.Splits, epochs: int, seed: int) -> layers.MLP:
    """A classifier of good and corrupted images."""
    tasks = [good_or_bad(split, seed) for split in splits[:2]]
    return with_task(model, 2, *tasks, epochs, seed, {})


def ranking(model: layers.MLP, splits: data.Splits, epochs: int, seed: int) -> layers.MLP:
    """A score that is higher for good images than for corrupted ones."""
    tasks = [side_by_side(good_or_bad(split, seed)) for split in splits[:2]]
    return with_task(model, 1, *tasks, epochs, seed, {"loss": ranked})


METHODS = {
    "from scratch": scratch,
    "autoencoder": autoencoder,
    "RBM": boltzmann,
    "corrupted": corrupted,
    "ranking": ranking,
}


def good_or_bad(examples: data.Examples, seed: int) -> data.Examples:
    """Each image and a corrupted copy, with patches that fit its size."""
    side = round(examples.x.shape[1] ** 0.5)
    return data.corrupted(examples, image_shape=(side, side), sigma=3.0 * side / 28, seed=seed)


def side_by_side(examples: data.Examples) -> data.Examples:
    """Pairs of a good image and its corrupted copy: x of shape (n, 2, features)."""
    good, bad = np.split(examples.x, 2)
    return data.Examples(np.stack([good, bad], axis=1), np.zeros(len(good), np.int32))


def ranked(scores: jax.Array, labels: jax.Array) -> jax.Array:
    """The ranking loss of pairs; scores have shape (batch, 2, 1)."""
    return transfer.margin_ranking_loss(scores[:, 0, 0], scores[:, 1, 0])


def with_task(
    model: layers.MLP,
    outputs: int,
    train: data.Examples,
    valid: data.Examples,
    epochs: int,
    seed: int,
    more: dict,
) -> layers.MLP:
    """The network, pretrained on a task without labels, with its old head."""
    task_model = transfer.replace_head(model, outputs, rngs=nnx.Rngs(seed))
    settings = {"batch_size": 100, "epochs": epochs, "seed": seed, "progress": False} | more
    result = training.fit(task_model, OPTIMIZER, train=train, valid=valid, **settings)
    return transfer.restore(model, result.model, "hidden")[0]


def fine_tuned(model: layers.MLP, splits: data.Splits, labels: int, seed: int) -> float:
    """Test accuracy in percent after training with a number of labels per class."""
    few = min(max(5, round(0.3 * labels)), np.bincount(splits.valid.y).min())
    result = training.fit(
        model,
        OPTIMIZER,
        train=data.per_class(splits.train, labels),
        valid=data.per_class(splits.valid, int(few)),
        batch_size=BATCH,
        epochs=EPOCHS,
        patience=PATIENCE,
        seed=seed,
        progress=False,
    )
    return 100 * training.evaluate(result.model, *splits.test)["accuracy"]


def measured(name: str, splits: data.Splits, seeds: int) -> list[dict]:
    """A row for each activation and method: accuracies by labels per class and seed."""
    rows = []
    few = data.Examples(*(part[:UNLABELLED] for part in splits.train))
    splits = splits._replace(train=few)
    for activation in ACTIVATIONS:
        for method, pretrain in METHODS.items():
            accuracy, seconds = [], []
            for seed in range(seeds):
                print(f"{activation}, {method}, seed {seed}", flush=True)
                model = layers.MLP(
                    splits.train.x.shape[1], 10, UNITS[name], activation, rngs=nnx.Rngs(seed)
                )
                started = time.perf_counter()
                model = pretrain(model, splits, PRETRAINING_EPOCHS[name], seed)
                seconds.append(time.perf_counter() - started)
                accuracy.append([fine_tuned(model, splits, n, seed) for n in LABELS[name]])
            rows.append(
                {
                    "activation": activation,
                    "method": method,
                    "accuracy": np.transpose(accuracy).tolist(),  # [labels][seed], in percent
                    "seconds": seconds,  # of pretraining, with compilation
                }
            )
    return rows


def told(name: str, rows: Sequence[dict]) -> str:
    """For each activation, the greatest gain over training from scratch, in a sentence."""
    said = []
    for activation in ACTIVATIONS:
        plain, *others = (row for row in rows if row["activation"] == activation)
        gains = {
            (row["method"], index): np.mean(row["accuracy"][index]) - np.mean(accuracy)
            for row in others
            for index, accuracy in enumerate(plain["accuracy"])
        }
        (method, index), gain = max(gains.items(), key=lambda item: item[1])
        row = next(row for row in others if row["method"] == method)
        spread = np.hypot(np.std(row["accuracy"][index]), np.std(plain["accuracy"][index]))
        beyond = "beyond" if gain > spread else "within"
        said.append(
            f"With {activation}, the greatest gain is that of {method} at {LABELS[name][index]} "
            f"labels a class: from {np.mean(plain['accuracy'][index]):.1f} to "
            f"{np.mean(row['accuracy'][index]):.1f} % of the test images, {beyond} the spread of "
            "seeds."
        )
    return f"On {name}: {' '.join(said)}"


def print_tables(name: str, rows: Sequence[dict], seeds: int) -> None:
    """A table for each activation: rows are labels per class, columns are methods."""
    for activation in ACTIVATIONS:
        some = [row for row in rows if row["activation"] == activation]
        plural = "s" * (seeds > 1)
        table = Table(title=f"{name}, {activation}: test accuracy in %, {seeds} seed{plural}")
        for heading in ("labels", *(row["method"] for row in some)):
            table.add_column(heading, justify="right")
        for index, labels in enumerate(LABELS[name]):
            cells = [mean_and_deviation(row["accuracy"][index], 1) for row in some]
            table.add_row(str(labels), *cells, end_section=labels == LABELS[name][-1])
        table.add_row("seconds", *(mean_and_deviation(row["seconds"], 1) for row in some))
        Console(highlight=False).print(table)


def draw(name: str, rows: Sequence[dict], path: Path) -> None:
    """Draws accuracy by labels per class: panels are activations, lines are methods."""
    figure, axes = plt.subplots(
        1, len(ACTIVATIONS), figsize=(10, 4.4), sharey=True, squeeze=False, layout="constrained"
    )
    for axis, activation in zip(axes[0], ACTIVATIONS, strict=True):
        some = [row for row in rows if row["activation"] == activation]
        for index, row in enumerate(some):
            accuracy = np.array(row["accuracy"])
            # Shifted, so that error bars do not hide each other.
            x = np.array(LABELS[name]) * 1.03 ** (index - len(some) / 2)
            deviation = accuracy.std(axis=1, ddof=1) if accuracy.shape[1] > 1 else None
            style = {"color": COLOURS[index], "marker": MARKERS[index], "label": row["method"]}
            axis.errorbar(x, accuracy.mean(axis=1), deviation, ms=5, lw=1.2, capsize=2, **style)
        axis.set_xscale("log")
        axis.set_xticks(LABELS[name], [str(labels) for labels in LABELS[name]])
        axis.minorticks_off()
        axis.set(xlabel="labels a class", title=activation)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("test accuracy, %")
    axes[0, -1].legend(frameon=False, fontsize=9, loc="lower right")
    seeds = len(rows[0]["seconds"])
    bars = f"; bars: standard deviation of {seeds} seeds" if seeds > 1 else ""
    figure.suptitle(f"{name}, pretrained on images without labels{bars}")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def write_page(name: str, rows: Sequence[dict], settings: dict, folder: Path) -> None:
    """Writes the report with tables and picture."""
    tables = {f"{name}, {row['activation']}": [] for row in rows}
    for row in rows:
        cells = dict(zip(map(str, LABELS[name]), row["accuracy"], strict=True))
        line = {"pretraining": row["method"]} | cells | {"seconds": row["seconds"]}
        tables[f"{name}, {row['activation']}"].append(line)
    path = reports.report(
        None,
        folder / "report.html",
        title=__doc__.splitlines()[0].rstrip("."),
        settings=settings,
        tables=tables,
        figures={"Test accuracy by labels a class": folder / "pretraining.png"},
        text="Test accuracy in %, by labels a class; seconds of pretraining, with compilation.",
    )
    print(f"Wrote {path}")


def main() -> None:
    """Pretrains with every method, trains with different numbers of labels, and reports."""
    options = arguments(__doc__)
    name, splits = images(options.data)
    rows = measured(name, splits, options.seeds)
    settings = {
        "data": name,
        "seeds": options.seeds,
        "labels a class": LABELS[name],
        "hidden layers": UNITS[name],
        "images without labels": min(UNLABELLED, len(splits.train.y)),
        "pretraining epochs a layer or task": PRETRAINING_EPOCHS[name],
        "batch_size": BATCH,
        "patience": PATIENCE,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    finding = told(name, rows)
    results = {"settings": settings | surroundings(), "rows": rows, "finding": finding}
    results = json.dumps(results, indent=1)
    (options.output / "results.json").write_text(results + "\n")
    draw(name, rows, options.output / "pretraining.png")
    print_tables(name, rows, options.seeds)
    print("labels: of training images, for each class; seconds: of pretraining, with compilation.")
    print(finding)
    print(f"Wrote results.json and pretraining.png into {options.output}/")
    if options.report:
        write_page(name, rows, settings, options.output)


if __name__ == "__main__":
    main()
