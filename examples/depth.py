"""Batch normalisation by depth: its gain in shallow and in deep networks.

Networks of two to twenty hidden layers of 100 units are trained with and without batch
normalisation, each with Adam at the best of a few learning rates. The table has that rate, the
number of epochs to a training loss, and the gain in test accuracy, seed by seed.

python examples/depth.py --output output/depth
"""

import matplotlib.pyplot as plt
import numpy as np
from topic_pictures import panels
from topics import Topic, Variant, epochs_to

import jaxopt_cards as jc
from jaxopt_cards import pictures

DEPTHS = (2, 5, 10, 20)
RATES = (3e-4, 1e-3, 3e-3, 1e-2)
GOAL = 0.05  # training loss


def trained(topic: Topic, depth: int, batch_norm: bool) -> Variant:
    """Trains a network at the rate with the least validation loss."""
    name = f"{depth} layers, {'with' if batch_norm else 'without'}"
    # An epoch of digits has 35 steps, too few for running statistics with momentum 0.99.
    make = topic.mlp(units=(100,) * depth, batch_norm=batch_norm, batch_norm_momentum=0.9)
    return topic.tune(name, make, jc.adam, RATES)


def row(depth: int, without: Variant, with_it: Variant) -> dict:
    """The row of the table."""
    return {
        "hidden layers": str(depth),
        "rate without": without.rate,
        "rate with": with_it.rate,
        "epochs without": epochs_to(GOAL, without, "train_loss"),
        "epochs with": epochs_to(GOAL, with_it, "train_loss"),
        "loss without": without.loss,
        "loss with": with_it.loss,
        "test without, %": without.accuracy,
        "test with, %": with_it.accuracy,
        "gain, points": [*map(float, np.subtract(with_it.accuracy, without.accuracy))],
    }


@pictures.style()
def draw(pairs: dict[int, tuple[Variant, Variant]]) -> plt.Figure:
    """Draws test accuracy by depth, a dot for each seed."""
    figure, (ax,) = panels(1, width=6)
    for index, name in enumerate(("without", "with batch normalisation")):
        accuracies = [pair[index].accuracy for pair in pairs.values()]
        (line,) = ax.plot([*pairs], np.mean(accuracies, axis=1), label=name)
        ax.plot([*pairs], accuracies, "o", ms=4, color=line.get_color(), alpha=0.6)
    ax.set(xlabel="hidden layers", ylabel="test accuracy, %", title="Batch normalisation by depth")
    ax.set_xticks([*pairs])
    ax.legend()
    return figure


def conclusion(rows: list[dict]) -> str:
    """A sentence on the gains at the least and the greatest depth."""
    shallow, deep = (rows[index] for index in (0, -1))
    gains = [np.mean(each["gain, points"]) for each in (shallow, deep)]
    spread = np.hypot(*(np.std(each["gain, points"]) for each in (shallow, deep)))
    grows = "more" if gains[1] - gains[0] > spread else "not clearly more"
    return (
        f"Batch normalisation changes the test accuracy by {gains[0]:+.2f} points with "
        f"{shallow['hidden layers']} hidden layers, and by {gains[1]:+.2f} with "
        f"{deep['hidden layers']}: {grows} in the deeper network."
    )


def main() -> None:
    """Trains all depths, with and without batch normalisation."""
    topic = Topic.of(__doc__, epochs=30)
    pairs = {depth: (trained(topic, depth, False), trained(topic, depth, True)) for depth in DEPTHS}
    rows = [row(depth, *pair) for depth, pair in pairs.items()]
    topic.finish(rows, {"depth": draw(pairs)}, conclusion(rows), rates=RATES, goal=GOAL)


if __name__ == "__main__":
    main()
