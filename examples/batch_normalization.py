"""Batch normalisation: with and without it, at several learning rates and initialisers.

Normalising each layer's inputs by the batch lets a network train where it otherwise would not: at
high learning rates, and from weights that are too large (deviation 1) or too small (0.01). The
table has the validation accuracy at each rate of gradient descent with Nesterov's momentum, and the
test accuracy at the rate that validation chose.

python examples/batch_normalization.py --data digits --output output/batch_normalization
"""

import itertools

import numpy as np
from flax import nnx
from topic_pictures import draw_rates, panels
from topics import Topic, best, row_of_rates, verdict

import jaxopt_cards as jc
from jaxopt_cards import pictures

RATES = (1e-3, 1e-2, 1e-1, 1.0)
INITIALIZERS = {
    "He": "he_normal",
    "large": "normal",
    "small": nnx.initializers.normal(0.01),
}


def draw(sweeps: dict, chosen: list) -> dict:
    """Accuracy against the learning rate, and the learning curves of the best rates."""
    figure, (left, right) = panels(2, 4.8, 4.4)
    draw_rates(left, sweeps)
    pictures.learning_curves(right, {variant.name: variant.histories for variant in chosen})
    right.set_title("Validation accuracy, each at its best rate")
    return {"batch_normalization": figure}


@pictures.style()
def main() -> None:
    """Trains each initialiser with and without, at each rate."""
    topic = Topic.of(__doc__, epochs=20)
    sweeps = {}
    for (weights, kernel_init), batch_norm in itertools.product(
        INITIALIZERS.items(), (False, True)
    ):
        name = f"{weights}, {'with' if batch_norm else 'without'}"
        # An epoch of digits is 35 steps, too few for running statistics of momentum 0.99.
        make = topic.mlp(kernel_init=kernel_init, batch_norm=batch_norm, batch_norm_momentum=0.9)
        sweeps[name] = topic.sweep(name, make, jc.nesterov, RATES)
    chosen = [best(sweep) for sweep in sweeps.values()]
    rows = [row_of_rates("weights", sweep) for sweep in sweeps.values()]
    conclusion = f"{verdict(chosen, chosen[0])} {robustness(sweeps)}"
    topic.finish(rows, draw(sweeps, chosen), conclusion, rates=RATES)


def robustness(sweeps: dict) -> str:
    """How many of the settings learn, with and without."""
    learned = {
        way: sum(
            np.mean(variant.valid_accuracy) > 90
            for name, sweep in sweeps.items()
            if name.endswith(way)
            for variant in sweep
        )
        for way in (", with", ", without")
    }
    total = len(sweeps) // 2 * len(RATES)
    return (
        f"Of {total} settings of weights and rate, {learned[', with']} reach 90 % on validation "
        f"with batch normalisation, {learned[', without']} without."
    )


if __name__ == "__main__":
    main()
