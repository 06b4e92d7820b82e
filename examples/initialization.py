"""Initialisation: gradients that vanish or explode through ten layers.

The slope of a logistic unit is at most a quarter, so with Glorot's weights the gradient almost
vanishes in the lowest layer. With weights of standard deviation 1, units saturate, and the gradient
explodes with tanh. Glorot, He and LeCun initialisation, each with its matching activation, keep
activations and gradients at about the same size in all layers.

The table has the standard deviation of the activations of layers 1 and 10, and the ratio of the
gradients of layer 1 and layer 10, before the first step. Then each network is trained at the best
of a few learning rates.

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
    "ELU, He": ("elu", "he_normal"),
    "SELU, LeCun": ("selu", "lecun_normal"),
}


def activations(model: nnx.Module, x: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of some hidden layers."""
    model.eval()
    return {f"hidden{index}": np.asarray(model.features(x, index)) for index in SHOWN}


def draw(stacks: dict, images) -> dict:
    """Draws the gradients by layer of all stacks, and the activations of three."""
    figure, (axis,) = panels(1, 7.5, 4.2)
    profiles = {
        name: np.array([layer.gradient_norm for layer in layers])
        for name, (_, layers) in stacks.items()
    }
    pictures.by_layer(axis, profiles, "norm of the gradient before training")
    axis.set_title("The gradient from layer 10 down to layer 1")
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
                "gradient, 1 / 10": float(first.gradient_norm / last.gradient_norm),
                "rate": variants[-1].rate,
                "test, %": variants[-1].accuracy,
            }
        )
    conclusion = f"{verdict(variants, variants[0])} {extremes(rows)}"
    topic.finish(rows, draw(stacks, topic.images), conclusion, rates=RATES, depth=DEPTH)


def extremes(rows: list[dict]) -> str:
    """A sentence on the stacks with the smallest and the largest ratio of gradients."""
    by_gradient = sorted(rows, key=lambda row: row["gradient, 1 / 10"])
    told = [f"{row['stack']}: {row['gradient, 1 / 10']:.2g}" for row in by_gradient]
    return f"The smallest and the largest ratio of gradients are {told[0]}; {told[-1]}."


if __name__ == "__main__":
    main()
