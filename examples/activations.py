"""Activation functions compared: from the logistic function to ELU and SELU.

The network of Géron's chapter 11, with five layers, is trained with each activation and a matching
initialiser, with Adam at the best of a few learning rates. The table also
has the median time of an epoch, and the least time to predict the test images ten times over.

python examples/activations.py --data digits --output output/activations
"""

import functools
import itertools

import jax
import numpy as np
from topic_pictures import panels
from topics import Topic, Variant, milliseconds, verdict

import jaxopt_cards as jc
from jaxopt_cards import layers, pictures

RATES = (3e-4, 1e-3, 3e-3, 1e-2)
LEAKY = functools.partial(layers.leaky_relu, negative_slope=0.2)
NAMES = {  # as the table calls them: the activation, and the initialiser that suits it
    "logistic": ("logistic", "glorot_normal"),
    "tanh": ("tanh", "glorot_normal"),
    "ReLU": ("relu", "he_normal"),
    "leaky ReLU": ("leaky_relu", "he_normal"),
    "leaky ReLU, 0.2": (LEAKY, "he_normal"),
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
    "leaky ReLU, 0.2": LEAKY,
    "RReLU": layers.rrelu,
    "PReLU": layers.PReLU(),
    "ELU": jax.nn.elu,
    "SELU": jax.nn.selu,
}
ORDER = (  # the chapter's, from the best
    ("ELU",),
    ("leaky ReLU", "leaky ReLU, 0.2", "RReLU", "PReLU"),
    ("ReLU",),
    ("tanh",),
    ("logistic",),
)
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def order(variants: list[Variant]) -> str:
    """A sentence on the chapter's order and that of the validation losses."""
    ranked = {name for names in ORDER for name in names}
    losses = {variant.name: variant.loss for variant in variants if variant.name in ranked}
    pairs = [
        (better, worse)
        for above, below in itertools.combinations(ORDER, 2)
        for better, worse in itertools.product(above, below)
        if better in losses and worse in losses
    ]
    agreeing = sum(losses[better] < losses[worse] for better, worse in pairs)
    return (
        "The chapter's order is ELU > leaky ReLU and its variants > ReLU > tanh > logistic. Here "
        f"it is {' > '.join(sorted(losses, key=losses.__getitem__))}, by validation loss. Of the "
        f"{len(pairs)} pairs that the chapter orders, {agreeing} have the same order here."
    )


def times(rows: list[dict]) -> str:
    """A sentence on the fastest and the slowest activation."""
    said = []
    for of, column in (("An epoch", "epoch, ms"), ("A prediction", "prediction, ms")):
        fastest, *_, slowest = sorted(rows, key=lambda row: row[column])
        said.append(
            f"{of} takes least time with {fastest['activation']}, {fastest[column]:.3g} ms, and "
            f"most with {slowest['activation']}, {slowest[column]:.3g} ms."
        )
    return " ".join(said)


@pictures.style()
def main() -> None:
    """Trains with each activation, and draws the functions and the learning curves."""
    topic = Topic.of(__doc__, epochs=30)
    makes = {
        name: topic.mlp(activation=activation, kernel_init=kernel_init)
        for name, (activation, kernel_init) in NAMES.items()
    }
    variants = [topic.tune(name, make, jc.adam, RATES) for name, make in makes.items()]
    epoch_ms = topic.epoch_ms(makes, jc.adam(RATES[0]))
    images = np.concatenate([topic.images.test.x] * 10)
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
            "epoch, ms": epoch_ms[variant.name],
            "prediction, ms": milliseconds(variant.results[0].model, images),
        }
        for variant in variants
    ]
    reference = variants[list(NAMES).index("ReLU")]
    conclusion = f"{verdict(variants, reference)} {order(variants)} {times(rows)}"
    topic.finish(rows, {"activations": figure}, conclusion, rates=RATES)


if __name__ == "__main__":
    main()
