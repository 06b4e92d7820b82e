"""Penalties: ℓ1, ℓ2 and elastic net, as terms of the loss and as decoupled decay with Adam.

Adam rescales the gradient of a term of the loss; decoupled decay follows Adam and is not rescaled.
Strengths are chosen by validation loss, all in one compiled program, in which a decay *before* Adam
stands for the term, since it has the same gradient. The rows of the table are then trained with the
term itself.

python examples/penalties.py --output output/penalties
"""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from topic_pictures import draw_over, panels
from topics import Topic, Variant, verdict, weights

import jaxopt_cards as jc
from jaxopt_cards import layers, pictures

RATE = 1e-3
STRENGTHS = {
    "term": (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03),
    "decay": (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
}


class Kind(NamedTuple):
    """A penalty in both forms; the strength is its gradient at a weight of 1."""

    term: Callable  # of the loss
    decay: Callable  # with the same gradient


KINDS = {
    "ℓ1": Kind(layers.l1, lambda s: jc.add_l1_decay(s, mask="kernel")),
    "ℓ2": Kind(lambda s: layers.l2(s / 2), lambda s: jc.add_decayed_weights(s, "kernel")),
    "elastic net": Kind(
        lambda s: layers.elastic_net(s / 2, s / 4),
        lambda s: jc.add_elastic_net(s / 2, s / 2, mask="kernel"),
    ),
}
FORMS = {
    "term": lambda decay: jc.chain(decay, jc.adam(RATE)),
    "decay": lambda decay: jc.chain(jc.scale_by_adam(), decay, jc.scale_by_learning_rate(RATE)),
}


def swept(topic: Topic, kind: str, form: str) -> list[Variant]:
    """Trains with all strengths of a penalty in one of its forms."""
    return topic.population(
        [(f"{kind} as {form}", topic.mlp(), {"strength": s}) for s in STRENGTHS[form]],
        lambda strength: FORMS[form](KINDS[kind].decay(strength)),
    )


def small(variant: Variant) -> list[float]:
    """The percentage of weights below a thousandth, for each seed."""
    of_seeds = (weights(result.model) for result in variant.results)
    return [100 * float(np.mean(np.abs(w) < 1e-3)) for w in of_seeds]


def row(variant: Variant, strength: float) -> dict:
    """The row of the table for one penalty."""
    return {
        "penalty": variant.name,
        "strength": strength,
        "validation loss": variant.loss,
        "test accuracy, %": variant.accuracy,
        "weights below 0.001, %": small(variant),
    }


@pictures.style()
def draw(plain: Variant, sweeps: dict[tuple[str, str], list[Variant]]) -> plt.Figure:
    """Draws accuracy by strength: terms of the loss at the left, decay at the right."""
    figure, axes = panels(2)
    titles = ("Term of the loss, before Adam", "Decay, after Adam")
    for ax, form, title in zip(axes, FORMS, titles, strict=True):
        lines = {kind: sweeps[kind, form] for kind in KINDS}
        draw_over(ax, STRENGTHS[form], lines, plain, "strength").set(xscale="log", title=title)
    axes[1].sharey(axes[0])
    return figure


@pictures.style()
def draw_weights(chosen: list[Variant]) -> plt.Figure:
    """Draws histograms of the weights."""
    figure, (ax,) = panels(1, width=6, height=5)
    inside = {variant.name: weights(variant.results[0].model) for variant in chosen}
    shown = {name: w[np.abs(w) < 0.3] for name, w in inside.items()}
    pictures.activation_histograms(ax, shown, label="weight, first seed")
    ax.set_title("Weights under each penalty at its best strength")
    return figure


def main() -> None:
    """Chooses strengths, trains with the terms themselves, and reports."""
    topic = Topic.of(__doc__, epochs=40)
    plain = topic.train("no penalty", topic.mlp(), jc.adam(RATE))
    sweeps = {(kind, form): swept(topic, kind, form) for kind in KINDS for form in FORMS}
    chosen, strengths = [plain], [0.0]
    for (kind, form), variants in sweeps.items():
        strength, variant = min(
            zip(STRENGTHS[form], variants, strict=True), key=lambda pair: pair[1].loss
        )
        if form == "term":
            term = KINDS[kind].term(strength)
            variant = topic.train(variant.name, topic.mlp(), jc.adam(RATE), regularizer=term)
        chosen.append(variant)
        strengths.append(strength)
    topic.finish(
        [row(*pair) for pair in zip(chosen, strengths, strict=True)],
        {"penalties": draw(plain, sweeps), "weights": draw_weights(chosen)},
        verdict(chosen, plain),
        learning_rate=RATE,
        strengths=STRENGTHS,
    )


if __name__ == "__main__":
    main()
