"""Layers learn at different speeds: the gradient of each layer during training.

In a plain deep stack of logistic layers the gradient shrinks on its way down, so that the lowest
layers hardly move while the highest learn. ELU and He's initialisation keep it alike. The norms are
recorded inside of the compiled steps by `jc.probe`, and read when training is over.

The table has what the lowest layer has of the highest layer's: of its gradient in the first and
the last steps, and of its relative step, which is the update's norm over that of the weights.

python examples/layer_speeds.py --data digits --output output/layer_speeds
"""

import numpy as np
from topic_pictures import panels
from topics import Topic, Variant, verdict

import jaxopt_cards as jc
from jaxopt_cards import pictures

DEPTH, UNITS, EVERY = 8, 50, 20
STACKS = {
    "logistic, Glorot": ("logistic", "glorot_normal", 0.1),
    "logistic, normal": ("logistic", "normal", 0.1),
    "ELU, He": ("elu", "he_normal", 0.01),
}


def row(variant: Variant, probes: list[dict[str, jc.Probes]]) -> dict:
    """How much smaller gradient and step of the lowest layer are than those of the highest."""

    def first_to_last(field: str, window: slice) -> list[float]:
        first, last = (
            [np.mean(getattr(run[f"hidden{layer}"], field)[window]) for run in probes]
            for layer in (1, DEPTH)
        )
        return [float(a / b) for a, b in zip(first, last, strict=True)]

    return {
        "stack": variant.name,
        "gradient, first": np.mean(first_to_last("gradient", slice(5))),
        "gradient, last": np.mean(first_to_last("gradient", slice(-5, None))),
        "relative step": np.mean(first_to_last("ratio", slice(None))),
        "loss": variant.loss,
        "test, %": variant.accuracy,
    }


@pictures.style()
def main() -> None:
    """Trains each stack, watched by a probe."""
    topic = Topic.of(__doc__, epochs=40)
    figure, axes = panels(len(STACKS), 3.2, 3.8)
    variants, rows = [], []
    for axis, (name, (activation, kernel_init, rate)) in zip(axes, STACKS.items(), strict=True):
        make = topic.mlp(units=(UNITS,) * DEPTH, activation=activation, kernel_init=kernel_init)
        variant, probes = topic.watch(name, make, jc.momentum(rate), EVERY)
        hidden = {layer: seen for layer, seen in probes[0].items() if layer.startswith("hidden")}
        pictures.gradient_norms(
            axis,
            {layer: seen.gradient for layer, seen in hidden.items()},
            probes[0]["hidden1"].step,
        )
        axis.set_title(name)
        if axis is not axes[-1]:
            axis.get_legend().remove()
        variants.append(variant)
        rows.append(row(variant, probes))
    low, high = (axis_limits(axes, which) for which in (0, 1))
    for axis in axes:
        axis.set_ylim(low, high)
    figure.suptitle("Norm of each layer's gradient during training: lines far apart learn unevenly")
    topic.finish(rows, {"layer_speeds": figure}, conclusion(rows, variants))


def axis_limits(axes: list, which: int) -> float:
    """The widest limit of all, so that panels can be compared."""
    limits = [axis.get_ylim()[which] for axis in axes]
    return min(limits) if which == 0 else max(limits)


def conclusion(rows: list[dict], variants: list[Variant]) -> str:
    """Whose layers learn most and least evenly, and who wins."""
    by_evenness = sorted(rows, key=lambda row: abs(np.log(row["gradient, first"])))
    even, uneven = by_evenness[0], by_evenness[-1]
    return (
        f"{even['stack']} learns most evenly, with a gradient of layer 1 that is "
        f"{even['gradient, first']:.2g} times that of layer {DEPTH}; with "
        f"{uneven['stack']} it is {uneven['gradient, first']:.2g} times. "
        f"{verdict(variants, variants[0])}"
    )


if __name__ == "__main__":
    main()
