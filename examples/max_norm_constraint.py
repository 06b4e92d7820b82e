"""Max-norm: dropout with a bound for the norm of each unit's weights, by learning rate.

The constraint should help most with large steps, since high learning rates then do less harm. A
network with dropout is trained with each radius at each rate, all in one compiled program. The rate
and the radius in the table are chosen by the validation loss.

python examples/max_norm_constraint.py --output output/max_norm_constraint
"""

import matplotlib.pyplot as plt
from topic_pictures import draw_over, panels
from topics import Topic, Variant, at_highest, best, row_of_best, verdict

import jaxopt_cards as jc
from jaxopt_cards import pictures

RADII = (0.5, 1.0, 2.0, 4.0)
RATES = (0.01, 0.02, 0.04, 0.08, 0.16)
DROPOUT = 0.2
PLAIN = "no constraint"


def constrained(learning_rate: float, radius: float) -> jc.GradientTransformation:
    """Momentum, followed by the projection."""
    return jc.chain(jc.momentum(learning_rate), jc.max_norm(radius))


def trained(topic: Topic) -> dict[str, list[Variant]]:
    """Trains without a constraint and with each radius, at each rate."""
    make = topic.mlp(dropout_rate=DROPOUT)
    lines = {PLAIN: topic.sweep(PLAIN, make, jc.momentum, RATES)}
    names = [f"radius {radius}" for radius in RADII]
    members = [
        (name, make, {"learning_rate": rate, "radius": radius})
        for name, radius in zip(names, RADII, strict=True)
        for rate in RATES
    ]
    variants = topic.population(members, constrained)
    n = len(RATES)
    return lines | {name: variants[i * n : (i + 1) * n] for i, name in enumerate(names)}


@pictures.style()
def draw(lines: dict[str, list[Variant]]) -> plt.Figure:
    """Draws accuracy by learning rate, with a line for each radius."""
    figure, (ax,) = panels(1, width=6, height=4)
    draw_over(ax, RATES, lines, label="learning rate of momentum", log=True)
    ax.set_title(f"Max-norm with dropout {DROPOUT}; bars: all seeds")
    return figure


def main() -> None:
    """Trains with each radius at each rate."""
    topic = Topic.of(__doc__, epochs=40)
    lines = trained(topic)
    chosen = {name: best(variants) for name, variants in lines.items()}
    topic.finish(
        [row_of_best("constraint", variants) for variants in lines.values()],
        {"max_norm": draw(lines)},
        verdict(list(chosen.values()), chosen[PLAIN]) + " " + at_highest(lines, PLAIN),
        rates=RATES,
        radii=RADII,
        dropout=DROPOUT,
    )


if __name__ == "__main__":
    main()
