"""Batch normalisation: with and without it, for several learning rates and initialisers.

With batch normalisation, a network can be trained at high learning rates, and from weights that are
too large (deviation 1) or too small (0.01). The table has the validation accuracy at each rate of
gradient descent with Nesterov momentum, and the test accuracy at the rate with the least validation
loss.

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
    """Draws accuracy by learning rate, and the learning curves at the best rates."""
    figure, (left, right) = panels(2, 4.8, 4.4)
    draw_rates(left, sweeps)
    pictures.learning_curves(right, {variant.name: variant.histories for variant in chosen})
    right.set_title("Validation accuracy, each at its best rate")
    return {"batch_normalization": figure}


@pictures.style()
def main() -> None:
    """Trains with each initialiser, with and without normalisation, at each rate."""
    topic = Topic.of(__doc__, epochs=20)
    sweeps = {}
    for (weights, kernel_init), batch_norm in itertools.product(
        INITIALIZERS.items(), (False, True)
    ):
        name = f"{weights}, {'with' if batch_norm else 'without'}"
        # An epoch of digits has 35 steps, too few for running statistics with momentum 0.99.
        make = topic.mlp(kernel_init=kernel_init, batch_norm=batch_norm, batch_norm_momentum=0.9)
        sweeps[name] = topic.sweep(name, make, jc.nesterov, RATES)
    chosen = [best(sweep) for sweep in sweeps.values()]
    rows = [row_of_rates("weights", sweep) for sweep in sweeps.values()]
    conclusion = f"{verdict(chosen, chosen[0])} {robustness(sweeps)}"
    topic.finish(rows, draw(sweeps, chosen), conclusion, rates=RATES)


def robustness(sweeps: dict) -> str:
    """A sentence on how many settings learn, with and without normalisation."""
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
        f"Of {total} settings of weights and rate, {learned[', with']} reach 90 % in validation "
        f"with batch normalisation, {learned[', without']} without."
    )


if __name__ == "__main__":
    main()
