"""Batch sizes: full batch, one example at a time, mini-batches, and a stream that drifts.

The first three make equally many passes over the training set, and differ in the number of examples
per step of gradient descent. In online learning, each batch of a stream is used once. In this
stream, the digits slowly turn on their side: a model that continues to learn follows the change,
and one that has stopped learning does not.

python examples/batchings.py --data digits --output output/batchings
"""

from collections.abc import Iterator

import numpy as np
import scipy.ndimage
from flax import nnx
from topic_pictures import panels
from topics import BATCH, Topic, Variant, shown, verdict

import jaxopt_cards as jc
from jaxopt_cards import data, pictures, training

RATES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# Passes over the training images: upright, turning, on their side.
UPRIGHT, TURNING, LYING = 4, 6, 2
GROUP = 10  # batches per point of the picture


def turned(examples: data.Examples, angle: float) -> data.Examples:
    """The images, rotated by an angle in degrees."""
    side = round(examples.x.shape[1] ** 0.5)
    square = examples.x.reshape(-1, side, side)
    x = scipy.ndimage.rotate(square, angle, axes=(1, 2), reshape=False, order=1)
    return data.Examples(x.reshape(examples.x.shape), examples.y)


def stream(train: data.Examples, seed: int) -> Iterator[data.Examples]:
    """Batches in random order, whose angle starts to grow after some passes."""
    batches = len(train.y) // BATCH
    growing = np.linspace(0, 90, TURNING * batches)
    angles = [*np.zeros(UPRIGHT * batches), *growing, *np.full(LYING * batches, 90)]
    random = np.random.default_rng(seed)
    for angle in angles:
        rows = random.choice(len(train.y), BATCH, replace=False)
        yield turned(data.Examples(train.x[rows], train.y[rows]), angle)


def online(topic: Topic, tx, axis) -> list[dict]:
    """Trains a model on the whole stream, and another only while images are upright."""
    print("online", flush=True)
    lying = turned(topic.images.test, 90)
    upright_batches = UPRIGHT * (len(topic.images.train.y) // BATCH)
    losses, accuracy = {"learns on": [], "stopped": []}, {"learns on": [], "stopped": []}
    for seed in range(topic.options.seeds):
        batches = list(stream(topic.images.train, seed))
        model = topic.mlp()(rngs=nnx.Rngs(seed))
        follows = training.fit_online(model, tx, batches)
        early = training.fit_online(model, tx, batches[:upright_batches])
        # With a learning rate of zero, only the losses are measured.
        stays = training.fit_online(early.model, jc.set_to_zero(), batches[upright_batches:])
        losses["learns on"].append(follows.losses)
        losses["stopped"].append(np.append(early.losses, stays.losses))
        for name, result in (("learns on", follows), ("stopped", early)):
            accuracy[name].append(100 * training.evaluate(result.model, *lying)["accuracy"])
    draw_stream(axis, losses, upright_batches)
    steps = {"learns on": len(batches), "stopped": upright_batches}
    return [
        {"batching": f"online, {name}", "size": BATCH, "steps": steps[name]}
        | {"rate": "–", "seconds": "–", "accuracy, %": "–"}
        | {"turned, %": accuracy[name]}
        for name in losses
    ]


def draw_stream(axis, losses: dict, upright_batches: int) -> None:
    """Draws the loss along the stream, as means over seeds and batches."""
    for (name, runs), line in zip(losses.items(), ("-", "--"), strict=True):
        mean = np.mean(runs, axis=0)
        groups = mean[: len(mean) // GROUP * GROUP].reshape(-1, GROUP).mean(axis=1)
        axis.semilogy(GROUP * np.arange(1, len(groups) + 1), groups, line, label=name)
    turning = upright_batches * (1 + TURNING / UPRIGHT)
    axis.axvspan(upright_batches, turning, color="gray", alpha=0.15, lw=0, label="digits turn")
    axis.set(title="Online: loss of each batch before its step", xlabel="batch", ylabel="loss")
    axis.legend()


@pictures.style()
def main() -> None:
    """Trains with each batch size, then on the stream."""
    topic = Topic.of(__doc__, epochs=15)
    examples = len(topic.images.train.y)
    sizes = {"full batch": examples, "one at a time": 1, "mini-batches": BATCH}
    variants = [
        topic.tune(name, topic.mlp(), jc.sgd, RATES, batch_size=size)
        for name, size in sizes.items()
    ]
    figure, (left, right) = panels(2, 5.0, 4.0)
    pictures.learning_curves(left, {variant.name: variant.histories for variant in variants})
    left.set_title("Validation accuracy, each at its best rate")
    rows = [
        row(variant, size, topic) for variant, size in zip(variants, sizes.values(), strict=True)
    ]
    rows += online(topic, jc.sgd(variants[-1].rate), right)
    ahead = max(rows[-2:], key=lambda row: np.mean(row["turned, %"]))
    conclusion = (
        f"{verdict(variants, variants[-1])} On the stream, {ahead['batching']} ends with "
        f"{shown(ahead['turned, %'])} % of turned digits right."
    )
    topic.finish(rows, {"batchings": figure}, conclusion, rates=RATES)


def row(variant: Variant, size: int, topic: Topic) -> dict:
    """The row of the table for one batch size."""
    steps = topic.options.epochs * -(-len(topic.images.train.y) // size)
    seconds = float(np.mean([result.seconds for result in variant.results]))
    return {
        "batching": variant.name,
        "size": size,
        "steps": steps,
        "rate": variant.rate,
        "seconds": seconds,
        "accuracy, %": variant.accuracy,
        "turned, %": "–",
    }


if __name__ == "__main__":
    main()
