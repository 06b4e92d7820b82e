"""Schedules compared: constant, piecewise, performance, exponential, power and one-cycle rates.

The initial rate is found by short runs over a range of rates, as in Géron's chapter 11. The best
constant rate need not be the best initial rate of a schedule, so each schedule is trained at
multiples of it, and uses the one with the least validation loss. The optimizer is momentum, since
adaptive optimizers need schedules less.

python examples/schedule_comparison.py --output output/schedule_comparison
"""

from collections.abc import Callable

import jax.numpy as jnp
import matplotlib.pyplot as plt
from flax import nnx
from topic_pictures import panels
from topics import BATCH, Topic, Variant, epochs_to, verdict

import jaxopt_cards as jc
from jaxopt_cards import pictures, schedules, training

MULTIPLES = (0.5, 1, 2, 4, 8)
PLATEAU = jc.reduce_on_plateau(factor=0.5, patience=3)
GOAL = 0.01  # training loss


def made(steps: int) -> dict[str, Callable]:
    """Each schedule as a function of its initial or, for one-cycle, its peak rate."""
    return {
        "constant": schedules.constant,
        "piecewise constant": lambda rate: schedules.piecewise_constant(
            [steps // 2, 3 * steps // 4], [rate, rate / 5, rate / 25]
        ),
        "performance": schedules.constant,
        "exponential": lambda rate: schedules.exponential_decay(rate, steps, 0.01),
        "power": lambda rate: schedules.power_decay(rate, max(steps // 10, 1)),
        "one-cycle": lambda rate: schedules.cosine_onecycle_schedule(steps, rate),
    }


def found(topic: Topic) -> training.RateRange:
    """Measures the validation loss of short runs over a range of rates."""
    return training.learning_rate_range(
        topic.mlp()(rngs=nnx.Rngs(0)),
        jc.momentum,
        train=topic.images.train,
        valid=topic.images.valid,
        low=1e-4,
        high=1.0,
        epochs=2,
        progress=False,
    )


def as_run(schedule: Callable, variant: Variant, steps: int) -> Callable:
    """The rates of the first seed; for performance scheduling, from its losses."""
    if variant.name != "performance":
        return schedule(variant.rate)
    state, scales = PLATEAU.init(jnp.ones(())), [1.0]
    for loss in variant.histories[0].valid_loss:
        scale, state = PLATEAU.update(jnp.ones(()), state, value=jnp.float32(loss))
        scales.append(float(scale))
    epochs = len(scales) - 1
    starts = [steps * epoch // epochs for epoch in range(1, epochs)]
    return schedules.piecewise_constant(starts, [variant.rate * scale for scale in scales[:-1]])


@pictures.style()
def draw(tuned: dict[str, Variant], run: dict[str, Callable], steps: int) -> plt.Figure:
    """Draws the schedules and their learning curves."""
    figure, (left, right) = panels(2)
    pictures.schedules(left, run, steps).set(title="Rates of the first seed", yscale="log")
    greatest = max(variant.rate for variant in tuned.values())
    left.set_ylim(greatest / 300, 1.5 * greatest)
    curves = {name: variant.histories for name, variant in tuned.items()}
    pictures.learning_curves(right, curves, quantity="valid_loss")
    right.set_title("Validation loss; bands: all seeds")
    return figure


@pictures.style()
def draw_range(rates: training.RateRange) -> plt.Figure:
    """Draws the search for the initial rate."""
    figure, (ax,) = panels(1)
    rates.plot(ax).set(title="Two epochs at each rate, momentum", yscale="log")
    return figure


def main() -> None:
    """Finds the rate, then tunes each schedule around it."""
    topic = Topic.of(__doc__, epochs=40)
    steps = topic.options.epochs * -(-len(topic.images.train.y) // BATCH)
    rates = found(topic)
    kinds = made(steps)
    tuned = {}
    for name, schedule in kinds.items():
        settings = {"plateau": PLATEAU} if name == "performance" else {}
        tuned[name] = topic.tune(
            name,
            topic.mlp(),
            lambda learning_rate, of=schedule: jc.momentum(of(learning_rate)),
            [rates.best * multiple for multiple in MULTIPLES],
            **settings,
        )
    rows = [
        {
            "schedule": name,
            "greatest rate": variant.rate,
            "validation loss": variant.loss,
            "test accuracy, %": variant.accuracy,
            f"epochs to training loss {GOAL}": epochs_to(GOAL, variant, "train_loss"),
        }
        for name, variant in tuned.items()
    ]
    run = {name: as_run(kinds[name], variant, steps) for name, variant in tuned.items()}
    topic.finish(
        rows,
        {"schedules": draw(tuned, run, steps), "range": draw_range(rates)},
        verdict(list(tuned.values()), tuned["constant"]),
        found=rates.best,
    )


if __name__ == "__main__":
    main()
