"""Layers learn at different speeds: the gradient of each layer during training.

In a deep stack of logistic layers, the gradient shrinks from the top to the bottom, so the lowest
layers hardly change while the highest learn. With ELU and He initialisation, it keeps its size. The
norms are recorded inside the compiled steps by `jc.probe`, and read after training.

The table has ratios of the lowest to the highest layer: of their gradients in the first and the
last steps, and of their relative steps, which are norms of updates divided by those of weights.

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
    """The ratios of gradient and step between the lowest and the highest layer."""

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
    """Trains each stack with a probe."""
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
    figure.suptitle(
        "Norm of each layer's gradient during training: distant lines mean different speeds"
    )
    topic.finish(rows, {"layer_speeds": figure}, conclusion(rows, variants))


def axis_limits(axes: list, which: int) -> float:
    """Gives all panels the same limits."""
    limits = [axis.get_ylim()[which] for axis in axes]
    return min(limits) if which == 0 else max(limits)


def conclusion(rows: list[dict], variants: list[Variant]) -> str:
    """A sentence on the stacks that learn most and least evenly, and on the best one."""
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
