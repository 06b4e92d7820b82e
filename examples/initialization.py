"""Initialisation: gradients that vanish or explode through ten layers.

The slope of a logistic unit is at most a quarter, so with Glorot's weights the gradient almost
vanishes in the lowest layer. With weights of standard deviation 1, units saturate, and the gradient
explodes with tanh. Glorot, He and LeCun initialisation, each with its matching activation, keep
activations and gradients at about the same size in all layers. The weights of Géron's table 11-1
are compared with these.

The table has the standard deviation of the activations of layers 1 and 10, how many of them are
saturated, and the ratio of the gradients of layer 1 and layer 10, before the first step. Then each
network is trained at the best of a few learning rates.

python examples/initialization.py --data digits --output output/initialization
"""

import numpy as np
from flax import nnx
from topic_pictures import panels
from topics import Topic, verdict

import jaxopt_cards as jc
from jaxopt_cards import cards, pictures

DEPTH, UNITS = 10, 100
RATES = (1e-3, 1e-2, 1e-1, 1.0)
SHOWN = (1, 4, 7, 10)  # layers whose activations are drawn
STACKS = {
    "logistic, normal": ("logistic", "normal"),
    "logistic, Glorot": ("logistic", "glorot_normal"),
    "tanh, normal": ("tanh", "normal"),
    "tanh, Glorot": ("tanh", "glorot_normal"),
    "ReLU, Glorot": ("relu", "glorot_normal"),
    "ReLU, He": ("relu", "he_normal"),
    "logistic, table 11-1": ("logistic", "logistic_normal"),
    "tanh, table 11-1": ("tanh", "tanh_normal"),
    "ReLU, table 11-1": ("relu", "relu_normal"),
    "ELU, He": ("elu", "he_normal"),
    "SELU, LeCun": ("selu", "lecun_normal"),
}


def activations(model: nnx.Module, x: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of some hidden layers."""
    model.eval()
    return {f"hidden{index}": np.asarray(model.features(x, index)) for index in SHOWN}


def draw(stacks: dict, images) -> dict:
    """Draws activations and gradients by layer of all stacks, and the activations of three."""
    figure, (left, right) = panels(2, 6.0, 4.6)
    for axis, field, label in (
        (left, "std", "deviation of the activations"),
        (right, "gradient_norm", "norm of the gradient before training"),
    ):
        profiles = {
            name: np.array([getattr(layer, field) for layer in layers])
            for name, (_, layers) in stacks.items()
        }
        pictures.by_layer(axis, profiles, label)
    left.set_title("Activations from layer 1 up to layer 10")
    right.set_title("The gradient from layer 10 down to layer 1")
    figures = {"gradients": figure}
    figure, axes = panels(3, 3.1, 3.2)
    for axis, name in zip(axes, ("logistic, normal", "logistic, Glorot", "ELU, He"), strict=True):
        pictures.activation_histograms(axis, activations(stacks[name][0], images.valid.x))
        axis.set_title(name)
    return figures | {"activations": figure}


@pictures.style()
def main() -> None:
    """Measures each stack before training, then trains it."""
    topic = Topic.of(__doc__, epochs=30)
    stacks, variants, rows = {}, [], []
    for name, (activation, kernel_init) in STACKS.items():
        make = topic.mlp(units=(UNITS,) * DEPTH, activation=activation, kernel_init=kernel_init)
        model = make(rngs=nnx.Rngs(0))
        statistics = cards.layer_statistics(model, *topic.images.valid)
        stacks[name] = (model, statistics)
        variants.append(topic.tune(name, make, jc.nesterov, RATES))
        first, last = statistics[0], statistics[-1]
        rows.append(
            {
                "stack": name,
                "std, 1": float(first.std),
                "std, 10": float(last.std),
                "saturated, 1, %": 100 * float(first.saturated),
                "saturated, 10, %": 100 * float(last.saturated),
                "gradient, 1 / 10": float(first.gradient_norm / last.gradient_norm),
                "rate": variants[-1].rate,
                "test, %": variants[-1].accuracy,
            }
        )
    conclusion = f"{verdict(variants, variants[0])} {extremes(rows)} {compared(rows)}"
    topic.finish(rows, draw(stacks, topic.images), conclusion, rates=RATES, depth=DEPTH)


def extremes(rows: list[dict]) -> str:
    """A sentence on the stacks with the smallest and the largest ratio of gradients."""
    by_gradient = sorted(rows, key=lambda row: row["gradient, 1 / 10"])
    told = [f"{row['stack']}: {row['gradient, 1 / 10']:.2g}" for row in by_gradient]
    return f"The smallest and the largest ratio of gradients are {told[0]}; {told[-1]}."


def compared(rows: list[dict]) -> str:
    """Sentences on the saturation that the chapter tells of, and on its table 11-1."""
    stacks = {row["stack"]: row for row in rows}
    large = stacks["logistic, normal"]
    low, high = large["saturated, 1, %"], large["saturated, 10, %"]
    judged = "as in the chapter" if high > low else "where the chapter has more in the top layers"
    told = [
        f"With logistic units and weights of deviation 1, {low:.1f} % of the activations of layer "
        f"1 and {high:.1f} % of those of layer 10 are saturated, {judged}."
    ]
    for name, row in stacks.items():
        if not name.endswith("table 11-1"):
            continue
        forward, back = row["std, 10"] / row["std, 1"], row["gradient, 1 / 10"]
        kept = "stay" if all(0.1 < ratio < 10 for ratio in (forward, back)) else "do not both stay"
        told.append(
            f"With {name}, the deviation of the activations changes by a factor of {forward:.2g} "
            f"from layer 1 to layer 10, and the gradient by {back:.2g} on its way back; they "
            f"{kept} within a factor of 10."
        )
    return " ".join(told)


if __name__ == "__main__":
    main()
