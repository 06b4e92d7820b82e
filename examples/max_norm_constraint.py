"""Max-norm: dropout with the weights of each unit kept within a ball, over learning rates.

A constraint promises most where steps are large: with it, high learning rates should do less harm.
So each radius is trained at each rate, all as one compiled program, on a network with dropout.
Rate and radius of the table are chosen by the validation loss.

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
    """Momentum, and after its step the projection."""
    return jc.chain(jc.momentum(learning_rate), jc.max_norm(radius))


def trained(topic: Topic) -> dict[str, list[Variant]]:
    """Without a constraint, and with each radius: a variant for each rate."""
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
    """Accuracy over the rate, a line for each radius."""
    figure, (ax,) = panels(1, width=6, height=4)
    draw_over(ax, RATES, lines, label="learning rate of momentum", log=True)
    ax.set_title(f"Max-norm with dropout {DROPOUT}; bars: all seeds")
    return figure


def main() -> None:
    """Trains every radius at every rate."""
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
