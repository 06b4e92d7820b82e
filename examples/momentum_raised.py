"""Momentum raised from 0.5 to 0.9 against constant momentum, at several learning rates.

At the start, gradients are large and change quickly, so high momentum may move the weights too far.
Later it speeds up progress along valleys. `schedules.momentum_warmup` raises it in the first
epochs. The table has the validation accuracy at each rate.

python examples/momentum_raised.py --data digits --output output/momentum_raised
"""

import functools

import numpy as np
from topic_pictures import draw_rates, panels
from topics import BATCH, Topic, best, row_of_rates, verdict

import jaxopt_cards as jc
from jaxopt_cards import pictures

RATES = (0.003, 0.01, 0.03, 0.06, 0.1)


@pictures.style()
def main() -> None:
    """Trains with each momentum at each rate."""
    topic = Topic.of(__doc__, epochs=20)
    steps_an_epoch = -(-len(topic.images.train.y) // BATCH)
    raised = max(topic.options.epochs // 2, 1) * steps_an_epoch
    momenta = {
        "0.5": jc.schedules.constant(0.5),
        "0.9": jc.schedules.constant(0.9),
        "raised": jc.schedules.momentum_warmup(0.5, 0.9, raised),
    }
    sweeps = {
        name: topic.sweep(
            name, topic.mlp(), functools.partial(jc.momentum, momentum=momentum), RATES
        )
        for name, momentum in momenta.items()
    }
    chosen = [best(sweep) for sweep in sweeps.values()]
    figure, (left, middle, right) = panels(3, 3.2, 3.4)
    pictures.schedules(left, momenta, topic.options.epochs * steps_an_epoch)
    left.set(title="The momentum", ylabel="momentum")
    draw_rates(middle, sweeps).get_legend().remove()
    pictures.learning_curves(right, {variant.name: variant.histories for variant in chosen})
    right.set_title("Each at its best rate")
    rows = [row_of_rates("momentum", sweep) for sweep in sweeps.values()]
    conclusion = f"{verdict(chosen, chosen[-1])} {highest_rates(sweeps)}"
    topic.finish(rows, {"momentum": figure}, f"Momentum {conclusion}", rates=RATES)


def highest_rates(sweeps: dict) -> str:
    """A sentence on the highest rate at which each of them learns."""
    highest = {
        name: max((at.rate for at in sweep if np.mean(at.valid_accuracy) > 90), default=None)
        for name, sweep in sweeps.items()
    }
    told = ", ".join(
        f"{name}: {'none' if rate is None else f'{rate:g}'}" for name, rate in highest.items()
    )
    return f"The highest rates that reach 90 % in validation are, by momentum, {told}."


if __name__ == "__main__":
    main()
