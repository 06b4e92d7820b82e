"""Activation functions compared: from the logistic function to ELU and SELU.

The network of Géron's chapter 11, with five layers, is trained with each activation and a matching
initialiser, with Adam at the best of a few learning rates.

python examples/activations.py --data digits --output output/activations
"""

import jax
import numpy as np
from topic_pictures import panels
from topics import Topic, verdict

import jaxopt_cards as jc
from jaxopt_cards import layers, pictures

RATES = (3e-4, 1e-3, 3e-3, 1e-2)
NAMES = {  # as the table calls them: the activation, and the initialiser that suits it
    "logistic": ("logistic", "glorot_normal"),
    "tanh": ("tanh", "glorot_normal"),
    "ReLU": ("relu", "he_normal"),
    "leaky ReLU": ("leaky_relu", "he_normal"),
    "RReLU": ("rrelu", "he_normal"),
    "PReLU": ("prelu", "he_normal"),
    "ELU": ("elu", "he_normal"),
    "SELU": ("selu", "lecun_normal"),
}
FUNCTIONS = {
    "logistic": jax.nn.sigmoid,
    "tanh": jax.numpy.tanh,
    "ReLU": jax.nn.relu,
    "leaky ReLU": jax.nn.leaky_relu,
    "RReLU": layers.rrelu,
    "PReLU": layers.PReLU(),
    "ELU": jax.nn.elu,
    "SELU": jax.nn.selu,
}
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


@pictures.style()
def main() -> None:
    """Trains with each activation, and draws the functions and the learning curves."""
    topic = Topic.of(__doc__, epochs=30)
    variants = [
        topic.tune(name, topic.mlp(activation=activation, kernel_init=kernel_init), jc.adam, RATES)
        for name, (activation, kernel_init) in NAMES.items()
    ]
    figure, (left, right) = panels(2, 5.0, 4.0)
    x = np.linspace(-4, 3, 200, dtype=np.float32)
    for index, (name, function) in enumerate(FUNCTIONS.items()):
        left.plot(x, function(x), ls=STYLES[index % 5], label=name)
    left.set(
        title="Functions (RReLU: mean; PReLU: at first)",
        xlabel="input",
        ylabel="output",
        ylim=(-2, 3),
    )
    left.legend(fontsize=8)
    pictures.learning_curves(right, {variant.name: variant.histories for variant in variants})
    right.set_title("Validation accuracy, each at its best rate")
    rows = [
        {
            "activation": variant.name,
            "weights": NAMES[variant.name][1],
            "best rate": variant.rate,
            "validation loss": variant.loss,
            "test accuracy, %": variant.accuracy,
        }
        for variant in variants
    ]
    reference = variants[list(NAMES).index("ReLU")]
    topic.finish(rows, {"activations": figure}, verdict(variants, reference), rates=RATES)


if __name__ == "__main__":
    main()
