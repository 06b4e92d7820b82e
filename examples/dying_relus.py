"""Dying ReLUs: the share of dead units in each layer, by learning rate.

A unit is dead if its output is 0 for all training images: it has no gradient, and only a change of
the layers below can revive it. The network of Géron's chapter 11 is trained with ReLU and gradient
descent, and with Adam at large rates. Units are counted in the epoch with the least validation loss
and after the last epoch, where runs whose loss is not finite are left out.

python examples/dying_relus.py --data digits --output output/dying_relus
"""

from collections.abc import Iterable, Mapping

import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from topic_pictures import looks, panels
from topics import Topic, Variant

import jaxopt_cards as jc
from jaxopt_cards import pictures

RATES = (0.01, 0.03, 0.1, 0.3)
ADAM_RATES = (0.01, 0.03)


def dead(models: Iterable[nnx.Module], x: np.ndarray) -> np.ndarray:
    """The percentage of dead units: a row for each model, a column for each hidden layer."""
    return np.array(
        [
            [
                100 * float(np.mean(np.all(np.asarray(model.features(x, index)) == 0, axis=0)))
                for index in range(1, model.depth + 1)
            ]
            for model in models
        ]
    )


def counted(variant: Variant, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The dead units in the best epoch, and after the last one where the loss is finite."""
    at_best = dead((result.model for result in variant.results), x)
    finite = [result for result in variant.results if result.stopped != "not finite"]
    at_end = dead((result.last for result in finite), x) if finite else at_best[:0]
    return at_best, at_end


def row(variant: Variant, at_best: np.ndarray, at_end: np.ndarray) -> dict:
    """The dead units of each layer, those of the whole network, and the test accuracy."""
    layers = {f"dead, {index}, %": list(each) for index, each in enumerate(at_best.T, start=1)}
    return (
        {"rate": variant.name}
        | layers
        | {
            "all, %": list(at_best.mean(axis=1)),
            "all at the end, %": list(at_end.mean(axis=1)) if len(at_end) else "none finite",
            "not finite": variant.failed,
            "test, %": variant.accuracy,
        }
    )


def draw(ax: plt.Axes, shares: Mapping[str, np.ndarray], title: str) -> None:
    """Draws the mean over the runs of each rate, by layer."""
    for (name, each), look in zip(shares.items(), looks(), strict=False):
        if len(each):
            ax.plot(range(1, each.shape[1] + 1), each.mean(axis=0), label=name, **look)
    ax.set(xlabel="hidden layer", ylabel="dead units, %", title=title, ylim=(-3, 103))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend()


def most(rows: list[dict]) -> str:
    """A sentence on the rate with the most dead units at the end of training."""
    finite = [row for row in rows if not isinstance(row["all at the end, %"], str)]
    said = ", ".join(
        f"{np.mean(row['all at the end, %']):.1f} % with {row['rate']}" for row in finite
    )
    failed = sum(row["not finite"] for row in rows)
    runs = f"{failed} run{'s' * (failed != 1)} ended with a loss that is not finite."
    if not finite:
        return runs
    top = max(finite, key=lambda row: np.mean(row["all at the end, %"]))
    share = float(np.mean(top["all at the end, %"]))
    half = "at least half" if share >= 50 else "less than half"
    return (
        f"At the end of training, of all hidden units {said} are dead: {half} of the network with "
        f"{top['rate']}, the worst. {runs}"
    )


@pictures.style()
def main() -> None:
    """Trains at each rate, and counts the units that are dead."""
    topic = Topic.of(__doc__, epochs=20)
    make, x = topic.mlp(activation="relu"), topic.images.train.x
    optimizers = {f"rate {rate:g}": jc.sgd(rate) for rate in RATES}
    optimizers |= {f"Adam at {rate:g}": jc.adam(rate) for rate in ADAM_RATES}
    sweep = [topic.fit_each(name, make, tx) for name, tx in optimizers.items()]
    shares = {variant.name: counted(variant, x) for variant in sweep}
    rows = [row(variant, *shares[variant.name]) for variant in sweep]
    figure, (left, right) = panels(2, 4.6, 3.8)
    draw(left, {name: at_best for name, (at_best, _) in shares.items()}, "In the best epoch")
    draw(right, {name: at_end for name, (_, at_end) in shares.items()}, "After the last epoch")
    first = [float(np.mean(each["dead, 1, %"])) for each in rows]
    worst = int(np.argmax(first))
    conclusion = (
        f"In the best epoch, {first[worst]:.1f} % of the first layer are dead with "
        f"{rows[worst]['rate']}, the most of all, and {min(first):.1f} % at the fewest. "
        + most(rows)
    )
    topic.finish(rows, {"dying_relus": figure}, conclusion, rates=RATES, adam_rates=ADAM_RATES)


if __name__ == "__main__":
    main()
