"""Optimizers compared: every optimizer of the package, at its best learning rate.

The network is that of Géron's chapter 11. For each optimizer, one compiled program trains with all
learning rates of a grid and all seeds. The rate with the least validation loss is used. The first
picture has the training loss at that rate. The second has the validation loss at every rate, since
a wide range of good rates matters as much as the best result.

FTRL starts with a sum of squares of zero. With Keras's default, 0.1, its first step discards the
random weights, and a network with five hidden layers does not learn at all.

AdamW decays weights by its default of 1e-4 times the learning rate, here 1e-7 a step. That is too
little to change a prediction on the test set, so its accuracy equals Adam's; the losses differ.

python examples/optimizer_comparison.py --output output/optimizer_comparison
"""

import functools

import matplotlib.pyplot as plt
import numpy as np
from topic_pictures import panels
from topics import Topic, Variant, best, epochs_to, verdict

import jaxopt_cards as jc
from jaxopt_cards import pictures

FAMILIES = {
    "gradient descent": {"sgd": jc.sgd, "momentum": jc.momentum, "nesterov": jc.nesterov},
    "rates by the gradients' history": {
        "adagrad": jc.adagrad,
        "adadelta": jc.adadelta,
        "rmsprop": jc.rmsprop,
        "ftrl": functools.partial(jc.ftrl, initial_accumulator_value=0.0),
    },
    "Adam and what came of it": {
        "adam": jc.adam,
        "nadam": jc.nadam,
        "adamax": jc.adamax,
        "adamw": jc.adamw,
    },
    "Adam, with its rates held back": {
        "amsgrad": jc.amsgrad,
        "radam": jc.radam,
        "adabound": jc.adabound,
        "amsbound": jc.amsbound,
    },
}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
GOAL = 0.05  # training loss


def row(variant: Variant) -> dict:
    """The row of the table for one optimizer."""
    return {
        "optimizer": variant.name,
        "best rate": variant.rate,
        "validation loss": variant.loss,
        "test accuracy, %": variant.accuracy,
        f"epochs to training loss {GOAL}": epochs_to(GOAL, variant, "train_loss"),
    }


@pictures.style()
def draw_curves(tuned: dict[str, Variant]) -> plt.Figure:
    """Draws learning curves at the best rates, with a panel for each family."""
    figure, axes = panels(2, width=4.6, height=3.1, rows=len(FAMILIES) // 2)
    for ax, (family, members) in zip(axes, FAMILIES.items(), strict=True):
        pictures.learning_curves(
            ax, {name: tuned[name].histories for name in members}, quantity="train_loss"
        )
        ax.set_title(family)
        ax.set_ylim(1e-4, 3)
    figure.suptitle("Training loss of each optimizer at its best rate; bands: all seeds")
    return figure


@pictures.style()
def draw_rates(swept: dict[str, list[Variant]]) -> plt.Figure:
    """Draws the validation loss of each optimizer at each rate, with the best rate framed."""
    figure, (ax,) = panels(1, width=7.5, height=5)
    losses = np.array([[variant.loss for variant in variants] for variants in swept.values()])
    shown = ax.imshow(np.clip(losses, 0, 1), cmap="cividis_r", aspect="auto", vmin=0.1, vmax=1)
    for (y, x), loss in np.ndenumerate(losses):
        least = loss == losses[y].min()
        text = f"{loss:.2f}" if loss < 100 else "–"
        colour = "white" if loss > 0.6 else "black"
        weight = "bold" if least else "normal"
        ax.text(x, y, text, ha="center", va="center", fontsize=8, color=colour, weight=weight)
        if least:
            ax.add_patch(plt.Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, lw=2))
    ax.set_xticks(range(len(RATES)), [f"{rate:.1g}" for rate in RATES])
    ax.set_yticks(range(len(swept)), swept)
    ax.set(xlabel="learning rate", title="Validation loss by optimizer and rate; framed: the best")
    figure.colorbar(shown, label="validation loss", extend="max")
    return figure


def main() -> None:
    """Tunes all optimizers, and reports."""
    topic = Topic.of(__doc__, epochs=20)
    optimizers = {name: make for family in FAMILIES.values() for name, make in family.items()}
    swept = {name: topic.sweep(name, topic.mlp(), make, RATES) for name, make in optimizers.items()}
    tuned = {name: best(variants) for name, variants in swept.items()}
    topic.finish(
        [row(variant) for variant in tuned.values()],
        {"curves": draw_curves(tuned), "rates": draw_rates(swept)},
        verdict(list(tuned.values()), tuned["sgd"]),
        rates=RATES,
    )


if __name__ == "__main__":
    main()
