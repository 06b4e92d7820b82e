"""Initialisation: gradients that vanish or explode on the way down through ten layers.

A logistic unit passes on a quarter of a gradient at most, so that with Glorot's weights little
reaches the lowest layer. With weights of standard deviation 1 units saturate, and tanh's gradient
explodes. Glorot's, He's and LeCun's initialisers, each with the activation that it is made for,
keep activations and gradients about alike in all layers.

The table has the standard deviation of the activations of layers 1 and 10, and the gradient of
layer 1 as a multiple of layer 10's, before the first step; then each network is trained at the best
learning rate of a few.

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
    """Gradients by layer of all, activations of three."""
    figure, (axis,) = panels(1, 7.5, 4.2)
    profiles = {
        name: np.array([layer.gradient_norm for layer in layers])
        for name, (_, layers) in stacks.items()
    }
    pictures.by_layer(axis, profiles, "norm of the gradient before training")
    axis.set_title("The gradient on its way down from layer 10 to layer 1")
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
    """Where the gradient vanishes and where it explodes most."""
    by_gradient = sorted(rows, key=lambda row: row["gradient, 1 / 10"])
    told = [f"{row['stack']}: {row['gradient, 1 / 10']:.2g}" for row in by_gradient]
    return f"The gradient of layer 1 is least and most of layer 10's with {told[0]}; {told[-1]}."


if __name__ == "__main__":
    main()
