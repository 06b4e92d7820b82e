"""Schedules compared: constant, piecewise, performance, exponential, power and one-cycle rates.

The initial rate is found by short runs over a range of rates, as in Géron's chapter 11. The best
constant rate need not be the best initial rate of a schedule, so each schedule is trained at
multiples of it, and uses the one with the least validation loss. The optimizer is momentum, since
adaptive optimizers need schedules less.

The last rows have the numbers of the chapter's example: a network of 300 and 50 units with ReLU,
batches of 50, and a rate that starts at 0.1 and that 10,000 steps divide by ten (exponential) or by
two (power). The first picture is the chapter's figure 11-8: learning curves of gradient descent at
constant rates.

python examples/schedule_comparison.py --output output/schedule_comparison
"""

from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from topic_pictures import looks, panels
from topics import BATCH, Topic, Variant, epochs_to, verdict

import jaxopt_cards as jc
from jaxopt_cards import pictures, schedules, training

MULTIPLES = (0.5, 1, 2, 4, 8)
PLATEAU = jc.reduce_on_plateau(factor=0.5, patience=3)
GOAL = 0.01  # training loss
# Of the chapter's figure 11-8, for gradient descent on the chapter's network.
CURVES = {"too low": 0.003, "good": 0.3, "high": 1.0, "too high": 3.0}
CHAPTER = {"units": (300, 50), "activation": "relu"}
CHAPTER_RATE, CHAPTER_STEPS, CHAPTER_BATCH = 0.1, 10_000, 50


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


def as_in_the_chapter(topic: Topic) -> list[Variant]:
    """The chapter's network and numbers: a constant, an exponential and a power schedule."""
    rates = {
        "constant": schedules.constant(CHAPTER_RATE),
        "exponential": schedules.exponential_decay(CHAPTER_RATE, CHAPTER_STEPS, 0.1),
        "power": schedules.power_decay(CHAPTER_RATE, CHAPTER_STEPS),
    }
    return [
        topic.train(
            f"{name}, the chapter's",
            topic.mlp(**CHAPTER),
            jc.momentum(rate),
            batch_size=CHAPTER_BATCH,
        )
        for name, rate in rates.items()
    ]


def at_constant_rates(topic: Topic) -> dict[str, Variant]:
    """Gradient descent on the chapter's network: a variant for each rate of the figure."""
    settings = {"batch_size": CHAPTER_BATCH}
    swept = topic.sweep("sgd", topic.mlp(**CHAPTER), jc.sgd, CURVES.values(), **settings)
    return dict(zip(CURVES, swept, strict=True))


def losses(variant: Variant) -> np.ndarray:
    """The mean training loss after each epoch; infinite where a run has diverged."""
    each = np.array([history.train_loss for history in variant.histories])
    return np.where(np.isfinite(each), each, np.inf).mean(axis=0)


def told_curves(curves: dict[str, Variant]) -> str:
    """A sentence on figure 11-8."""
    ends = {name: losses(variant)[-1] for name, variant in curves.items()}
    told = [f"{end:.2g} if it is {name} ({CURVES[name]:g})" for name, end in ends.items()]
    as_drawn = min(ends, key=ends.__getitem__) == "good"
    return (
        f"With a constant rate, the training loss of gradient descent ends at {', '.join(told)}, "
        f"{'as' if as_drawn else 'unlike'} in the chapter's figure 11-8, where the good rate ends "
        "lowest."
    )


def told_of_senior(tuned: dict[str, Variant]) -> str:
    """A sentence on the comparison of Senior et al. (2013) that the chapter cites."""
    three = [name for name in ("performance", "exponential", "power") if name in tuned]
    constant = np.mean(tuned["constant"].accuracy)
    spread = np.std(tuned["constant"].accuracy)
    work = [name for name in three if np.mean(tuned[name].accuracy) >= constant - spread]
    epochs = {name: epochs_to(GOAL, tuned[name], "train_loss") for name in three}
    reached = {name: each for name, each in epochs.items() if not isinstance(each, str)}
    fastest = min(reached, key=reached.__getitem__) if reached else "none of them"
    least = min(three, key=lambda name: tuned[name].loss)
    favoured = "agrees" if fastest == least == "exponential" else "does not agree"
    return (
        "Senior et al. found that performance and exponential schedules both work well, and "
        f"favoured the exponential one. Here, {len(work)} of {len(three)} (performance, "
        f"exponential, power) are at least as accurate as a constant rate, up to its spread; "
        f"{fastest} is first at a training loss of {GOAL:g}, and {least} has the least validation "
        f"loss. This {favoured} with favouring the exponential one."
    )


@pictures.style()
def draw_curves(curves: dict[str, Variant]) -> plt.Figure:
    """Draws the chapter's figure 11-8."""
    figure, (ax,) = panels(1, width=6)
    for (name, variant), look in zip(curves.items(), looks(), strict=False):
        loss = losses(variant)
        style = {"linestyle": look["linestyle"]}
        ax.plot(np.arange(1, len(loss) + 1), loss, label=f"{name}: {CURVES[name]:g}", **style)
    ax.set(xlabel="epoch", ylabel="training loss", title="Gradient descent at constant rates")
    ax.set_ylim(0, 3)
    ax.grid(alpha=0.15)
    ax.legend()
    return figure


def row(variant: Variant) -> dict:
    """The row of the table for one schedule."""
    return {
        "schedule": variant.name,
        "greatest rate": variant.rate,
        "validation loss": variant.loss,
        "test accuracy, %": variant.accuracy,
        f"epochs to training loss {GOAL}": epochs_to(GOAL, variant, "train_loss"),
    }


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
    run = {name: as_run(kinds[name], variant, steps) for name, variant in tuned.items()}
    chapters = [replace(each, rate=CHAPTER_RATE) for each in as_in_the_chapter(topic)]
    curves = at_constant_rates(topic)
    figures = {
        "curves": draw_curves(curves),
        "range": draw_range(rates),
        "schedules": draw(tuned, run, steps),
    }
    said = [verdict(list(tuned.values()), tuned["constant"]), told_of_senior(tuned)]
    topic.finish(
        [*map(row, (*tuned.values(), *chapters))],
        figures,
        " ".join([*said, told_curves(curves)]),
        found=rates.best,
        ends={name: float(losses(variant)[-1]) for name, variant in curves.items()},
    )


if __name__ == "__main__":
    main()
