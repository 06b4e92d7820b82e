"""Dying ReLUs: the share of dead units in each layer, by learning rate.

A unit is dead if its output is 0 for all training images: it has no gradient, and only a change of
the layers below can revive it. The network of Géron's chapter 11 is trained with ReLU and gradient
descent; units are counted in the epoch with the least validation loss.

python examples/dying_relus.py --data digits --output output/dying_relus
"""

import numpy as np
from topic_pictures import looks, panels
from topics import Topic, Variant

import jaxopt_cards as jc
from jaxopt_cards import pictures

RATES = (0.01, 0.03, 0.1, 0.3)


def dead(variant: Variant, x: np.ndarray) -> np.ndarray:
    """The percentage of dead units: a row for each seed, a column for each hidden layer."""
    models = [result.model for result in variant.results]
    return np.array(
        [
            [
                100 * float(np.mean(np.all(np.asarray(model.features(x, index)) == 0, axis=0)))
                for index in range(1, model.depth + 1)
            ]
            for model in models
        ]
    )


def row(variant: Variant, shares: np.ndarray) -> dict:
    """The dead units of each layer, and the test accuracy."""
    layers = {f"dead, {index}, %": list(each) for index, each in enumerate(shares.T, start=1)}
    return {"rate": f"rate {variant.rate:g}"} | layers | {"test, %": variant.accuracy}


@pictures.style()
def main() -> None:
    """Trains at each rate, and counts the units that are dead in the best epoch."""
    topic = Topic.of(__doc__, epochs=20)
    sweep = topic.sweep("ReLU", topic.mlp(activation="relu"), jc.sgd, RATES)
    shares = [dead(variant, topic.images.train.x) for variant in sweep]
    rows = [row(variant, each) for variant, each in zip(sweep, shares, strict=True)]
    figure, (ax,) = panels(1, 5.5, 4.0)
    layers = range(1, shares[0].shape[1] + 1)
    for variant, each, look in zip(sweep, shares, looks(), strict=False):
        ax.plot(layers, each.mean(axis=0), label=f"rate {variant.rate:g}", **look)
    ax.set(xlabel="hidden layer", ylabel="dead units, %", xticks=layers, title="In the best epoch")
    ax.legend()
    first = [float(each[:, 0].mean()) for each in shares]
    most = int(np.argmax(first))
    conclusion = (
        f"Of the first layer {first[most]:.1f} % are dead at {rows[most]['rate']}, the most of all "
        f"rates, and {min(first):.1f} % at the fewest. Of all hidden units it is "
        + ", ".join(f"{s.mean():.1f} % at {r['rate']}" for s, r in zip(shares, rows, strict=True))
        + f". {sum(variant.failed for variant in sweep)} runs ended with a loss that is not finite."
    )
    topic.finish(rows, {"dying_relus": figure}, conclusion, rates=RATES)


if __name__ == "__main__":
    main()
