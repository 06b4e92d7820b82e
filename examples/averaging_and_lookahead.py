"""Averages of the weights: Polyak averaging and Lookahead, against the last and the best weights.

With a high constant learning rate, the weights fluctuate around the minimum. Their average, from
the same run, is nearer to it than the last weights; Lookahead averages during training. Keeping the
best epoch is another remedy. All are evaluated at several learning rates, and each uses the rate
with its least validation loss.

python examples/averaging_and_lookahead.py --output output/averaging_and_lookahead
"""

import dataclasses

import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from topic_pictures import draw_over, panels
from topics import Topic, Variant, at_highest, best, row_of_best, verdict

import jaxopt_cards as jc
from jaxopt_cards import pictures, training

RATES = (1e-3, 2e-3, 4e-3, 8e-3)
AVERAGES = {"average of the last": 0.99, "average of all": "uniform"}
LAST, BEST, LOOKAHEAD = "last weights", "best epoch", "Lookahead"


def averaged(rate: float) -> jc.GradientTransformation:
    """Adam with both averages."""
    averages = {name: jc.polyak_average(decay) for name, decay in AVERAGES.items()}
    return jc.named_chain(("adam", jc.adam(rate)), *averages.items())


def holding(topic: Topic, result: training.FitResult, model: nnx.Module) -> training.FitResult:
    """The result with another model, and only that model's losses."""
    measured = training.evaluate(model, *topic.images.valid)
    last = [column[-1:] for column in result.history]
    history = training.History(*last)._replace(
        valid_loss=np.array([measured["loss"]]), valid_accuracy=np.array([measured["accuracy"]])
    )
    return dataclasses.replace(result, model=model, history=history, best_epoch=1)


def average(result: training.FitResult, name: str) -> nnx.Module:
    """The last model with averaged weights."""
    model = nnx.clone(result.last)
    nnx.update(model, result.opt_state[name].average)
    return model


def slow(result: training.FitResult) -> nnx.Module:
    """The last model with Lookahead's slow weights."""
    model = nnx.clone(result.last)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    nnx.update(model, jc.slow_weights(params, result.opt_state))
    return model


def at_rate(topic: Topic, rate: float) -> list[Variant]:
    """All methods at one rate; all except Lookahead come from the same runs."""
    plain = topic.fit_each(f"Adam at {rate}", topic.mlp(), averaged(rate))
    ahead = topic.fit_each(f"Lookahead at {rate}", topic.mlp(), jc.lookahead(jc.adam(rate)))
    models = {
        LAST: [result.last for result in plain.results],
        BEST: [result.model for result in plain.results],
        **{name: [average(result, name) for result in plain.results] for name in AVERAGES},
        LOOKAHEAD: [slow(result) for result in ahead.results],
    }
    return [
        topic.measured(
            name,
            [
                holding(topic, result, model)
                for result, model in zip(plain.results, chosen, strict=True)
            ],
            rate,
        )
        for name, chosen in models.items()
    ]


@pictures.style()
def draw(lines: dict[str, list[Variant]]) -> plt.Figure:
    """Draws accuracy by learning rate, with a line for each method."""
    figure, (ax,) = panels(1, width=6.5, height=4.2)
    draw_over(ax, RATES, lines, label="learning rate of Adam", log=True)
    ax.set_title("Weights used from a run at a constant rate; bars: all seeds")
    return figure


def main() -> None:
    """Trains at each rate, and compares the weights."""
    topic = Topic.of(__doc__, epochs=30)
    by_rate = [at_rate(topic, rate) for rate in RATES]
    lines = {variants[0].name: list(variants) for variants in zip(*by_rate, strict=True)}
    tuned = {name: best(variants) for name, variants in lines.items()}
    topic.finish(
        [row_of_best("weights", variants) for variants in lines.values()],
        {"averages": draw(lines)},
        verdict(list(tuned.values()), tuned[LAST]) + " " + at_highest(lines, LAST),
        rates=RATES,
    )


if __name__ == "__main__":
    main()
