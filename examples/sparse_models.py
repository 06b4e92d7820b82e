"""Sparse models: pruning, ℓ1 and FTRL, accuracy against the fraction of zero weights.

Five methods set weights to zero: pruning the smallest after training; pruning and further training;
strong ℓ1, then pruning of small weights; ℓ1 by its proximal step, with exact zeros; and FTRL with
ℓ1. The table has, for each method, the most zeros with a validation accuracy within a point of the
dense network's, or else its best accuracy.

python examples/sparse_models.py --output output/sparse_models
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from topic_pictures import panels
from topics import Topic, share_of_zeros

import jaxopt_cards as jc
from jaxopt_cards import pictures, training

RATE = 1e-3
SHARES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
STRENGTHS = (0.03, 0.1, 0.2, 0.3, 0.5)  # of ℓ1, times the learning rate
FTRL_STRENGTHS = (0.03, 0.1, 0.3, 1.0, 3.0)
SMALL = 0.01  # what ℓ1 has drawn near zero
EVER = 1_000_000  # steps, and more than there are: weights are chosen once
WITHIN = 1.0  # points of validation accuracy


class Point(NamedTuple):
    """One setting of one method; percentages for each seed."""

    way: str
    setting: float
    zeros: Sequence[float]
    valid: Sequence[float]
    test: Sequence[float]


def measured(topic: Topic, way: str, setting: float, models: Sequence[nnx.Module]) -> Point:
    """Counts zeros, and evaluates on both sets."""
    valid = [100 * training.evaluate(m, *topic.images.valid)["accuracy"] for m in models]
    return Point(
        way, setting, [*map(share_of_zeros, models)], valid, [*map(topic.accuracy, models)]
    )


def pruned(model: nnx.Module, **settings) -> nnx.Module:
    """The model after one step of pruning only."""
    model, tx = nnx.clone(model), jc.magnitude_prune(mask="kernel", **settings)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), tx.init(params), params)
    nnx.update(model, jc.apply_updates(params, updates))
    return model


def pruning_on(sparsity: float) -> jc.GradientTransformation:
    """Adam, with the smallest initial weights held at zero."""
    prune = jc.magnitude_prune(sparsity=sparsity, every=EVER, mask="kernel")
    return jc.chain(jc.adam(RATE), prune)


def decaying(strength: float) -> jc.GradientTransformation:
    """Adam with ℓ1 decay."""
    decay = jc.add_l1_decay(strength, mask="kernel")
    return jc.chain(jc.scale_by_adam(), decay, jc.scale_by_learning_rate(RATE))


def proximal(strength: float) -> jc.GradientTransformation:
    """Adam with a proximal ℓ1 step, which stops at zero."""
    return jc.chain(jc.adam(RATE), jc.proximal_l1(RATE * strength, mask="kernel"))


def leader(strength: float) -> jc.GradientTransformation:
    """FTRL with an initial sum of squares of zero, as in optimizer_comparison.py."""
    return jc.ftrl(0.01, initial_accumulator_value=0.0, l1_regularization_strength=strength)


PENALISED = {
    "ℓ1 decay, the small dropped": (STRENGTHS, decaying),
    "ℓ1 by proximal steps": (STRENGTHS, proximal),
    "FTRL with ℓ1": (FTRL_STRENGTHS, leader),
}


def at_end(topic: Topic, way: str, make_tx: Callable, strength: float) -> list[nnx.Module]:
    """Trains with all strengths, and keeps the last models, since ℓ1 needs many epochs.

    The strength is in the optimizer's state, so all strengths share a program.
    """
    tx = injected(make_tx)
    params = nnx.to_pure_dict(nnx.state(topic.mlp()(rngs=nnx.Rngs(0)), nnx.Param))
    start = tx.init(params)
    hyperparameters = start.hyperparams | {"strength": jnp.float32(strength)}
    start = start._replace(hyperparams=hyperparameters)
    variant = topic.fit_each(f"{way} {strength}", topic.mlp(), tx, opt_state=start)
    return [result.last for result in variant.results]


@functools.cache  # one object for all strengths
def injected(make_tx: Callable) -> jc.GradientTransformation:
    """The transformation, with the strength in its state."""
    return jc.inject_hyperparams(make_tx)(strength=0.0)


def points(topic: Topic) -> list[Point]:
    """All methods at all settings, starting with the dense network."""
    dense = [result.model for result in topic.train("dense", topic.mlp(), jc.adam(RATE)).results]
    found = [measured(topic, "dense", 0.0, dense)]
    for share in SHARES:
        models = [pruned(model, sparsity=share) for model in dense]
        found.append(measured(topic, "pruned after training", share, models))
    way = "pruned and trained on"
    members = [(way, dense, {"sparsity": share}) for share in SHARES]
    for share, variant in zip(SHARES, topic.population(members, pruning_on), strict=True):
        found.append(measured(topic, way, share, [result.model for result in variant.results]))
    for way, (strengths, make_tx) in PENALISED.items():
        for strength in strengths:
            models = at_end(topic, way, make_tx, strength)
            if make_tx is decaying:
                models = [pruned(model, threshold=SMALL) for model in models]
            found.append(measured(topic, way, strength, models))
    return found


def is_as_good(point: Point, dense: Point) -> bool:
    """Whether the validation accuracy is within a point of the dense network's."""
    return bool(np.mean(point.valid) >= np.mean(dense.valid) - WITHIN)


def sparsest(points: Sequence[Point], dense: Point) -> Point:
    """The point with the most zeros that is as good as the dense network, or the best point."""
    good = [point for point in points if is_as_good(point, dense)]
    if not good:
        return max(points, key=lambda point: np.mean(point.valid))
    return max(good, key=lambda point: np.mean(point.zeros))


def row(point: Point, dense: Point) -> dict:
    """The row of the table for one method."""
    return {
        "way": point.way,
        "setting": point.setting,
        "zeros, %": point.zeros,
        "as good": "yes" if is_as_good(point, dense) else "no",
        "validation accuracy, %": point.valid,
        "test accuracy, %": point.test,
    }


def told(chosen: Sequence[Point], dense: Point) -> str:
    """A sentence on the method with the most zeros."""
    good = [point for point in chosen if is_as_good(point, dense)]
    if not good:
        return (
            f"No method stays within {WITHIN:g} point of the dense network's validation accuracy."
        )
    most = max(good, key=lambda point: np.mean(point.zeros))
    return (
        f"Within {WITHIN:g} point of the dense network's validation accuracy, {most.way} has the "
        f"most zeros, {np.mean(most.zeros):.1f} % of the weights, with {np.mean(most.test):.2f} % "
        f"on the test set, where the dense network has {np.mean(dense.test):.2f} %."
    )


@pictures.style()
def draw(found: list[Point]) -> plt.Figure:
    """Draws test accuracy against zeros, with a line for each method."""
    figure, (ax,) = panels(1, width=7, height=4.5)
    lines: dict[str, list] = {}
    for point in found:
        pair = (np.mean(point.zeros) / 100, np.mean(point.test))
        lines.setdefault(point.way, []).append(pair)
    pictures.sparsity(ax, {way: np.array(sorted(pairs)) for way, pairs in lines.items()})
    ax.set_title("Mean over seeds of the test accuracy, against zeros among the weights")
    return figure


def main() -> None:
    """Measures all points, and reports."""
    topic = Topic.of(__doc__, epochs=40)
    dense, *others = found = points(topic)
    ways = dict.fromkeys(point.way for point in others)
    chosen = [sparsest([p for p in others if p.way == way], dense) for way in ways]
    topic.finish(
        [row(point, dense) for point in (dense, *chosen)],
        {"sparsity": draw(found)},
        told(chosen, dense),
        learning_rate=RATE,
        small=SMALL,
    )


if __name__ == "__main__":
    main()
