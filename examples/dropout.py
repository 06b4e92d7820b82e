"""Dropout and DropConnect: units, inputs or weights dropped at random, at several rates.

The rate of `layers.Dropout` is an array of the model, so all rates of one kind share one compiled
program. The rates in the table are chosen by the validation loss. Then the networks of each kind
predict many times with their noise, as an ensemble, and the mean of these passes is compared with
one pass without noise. Finally, a small convolutional network uses max pooling, average pooling, or
stochastic pooling, which adds similar noise.

The table has the median time of an epoch of training, and the least time of a prediction of the
test images.

python examples/dropout.py --output output/dropout
"""

import functools
import timeit

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from topic_pictures import draw_over, panels
from topics import Topic, Variant, best, milliseconds, verdict

import jaxopt_cards as jc
from jaxopt_cards import layers, pictures, training

RATES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
KINDS = {
    "dropout": "dropout_rate",
    "dropout of inputs": "input_dropout_rate",
    "DropConnect": "drop_connect_rate",
}
TX = jc.adam(1e-3)
PASSES = 100
POOLS = {  # one object for all models, so that they share a compiled program
    name: functools.partial(pool, window_shape=(2, 2), strides=(2, 2))
    for name, pool in {"max": nnx.max_pool, "mean": nnx.avg_pool}.items()
}


class Pooled(nnx.Module):
    """Two convolutions, each followed by pooling, and an output layer."""

    def __init__(self, pool: str, side: int, classes: int, *, rngs: nnx.Rngs):
        """Keeps the pooling as a layer, since stochastic pooling has random streams."""
        self.side = side
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.second = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.logits = nnx.Linear(32 * (side // 4) ** 2, classes, rngs=rngs)
        self.pool = POOLS.get(pool) or layers.StochasticPool((2, 2), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of flattened images."""
        x = x.reshape(-1, self.side, self.side, 1)
        for convolution in (self.first, self.second):
            x = self.pool(nnx.relu(convolution(x)))
        return self.logits(x.reshape(len(x), -1))


def dropped(topic: Topic) -> dict[str, list[Variant]]:
    """Trains with each kind of noise at all rates."""
    return {
        kind: topic.population(
            [(f"{kind} {rate}", topic.mlp(**{argument: jnp.float32(rate)}), {}) for rate in RATES],
            TX,
        )
        for kind, argument in KINDS.items()
    }


def convolutional(topic: Topic) -> dict[str, functools.partial]:
    """Makers of the small convolutional network with each pooling."""
    pixels, classes = topic.images.train.x.shape[1], int(topic.images.train.y.max()) + 1
    settings = {"side": round(pixels**0.5), "classes": classes}
    return {
        f"{pool} pooling": functools.partial(Pooled, pool, **settings)
        for pool in ("max", "mean", "stochastic")
    }


def row(topic: Topic, variant: Variant, epoch_ms: float) -> dict:
    """The table; a training loss far below the validation loss is overfitting."""
    fitted = [
        float(history.train_loss[result.best_epoch - 1])
        for history, result in zip(variant.histories, variant.results, strict=True)
    ]
    return {
        "noise": variant.name,
        "training loss": float(np.mean(fitted)),
        "validation loss": variant.loss,
        "test accuracy, %": variant.accuracy,
        "epoch, ms": epoch_ms,
        "prediction, ms": milliseconds(variant.results[0].model, topic.images.test.x),
    }


def of_ensemble(topic: Topic, of_one: dict, variant: Variant) -> dict:
    """The row of the mean of many passes with noise, from the row of one pass without noise."""
    valid, test = topic.images.valid, topic.images.test
    predict = functools.partial(training.monte_carlo_predict, passes=PASSES)
    models = [result.model for result in variant.results]
    chances = [predict(model, valid.x).mean[np.arange(len(valid.y)), valid.y] for model in models]
    right = [np.argmax(predict(model, test.x).mean, axis=1) == test.y for model in models]
    return of_one | {
        "noise": f"{variant.name}, {PASSES} passes",
        "validation loss": float(-np.mean(np.log(chances))),
        "test accuracy, %": [100 * float(np.mean(each)) for each in right],
        "prediction, ms": 1000
        * min(timeit.repeat(lambda: predict(models[0], test.x), number=1, repeat=3)),
    }


def ensembles(pairs: list[tuple[dict, dict]]) -> str:
    """A sentence for each kind of noise on one pass and on the mean of many."""
    told = []
    for one, many in pairs:
        losses = [row["validation loss"] for row in (many, one)]
        means = [np.mean(row["test accuracy, %"]) for row in (many, one)]
        told.append(
            f"{one['noise']}: the mean of {PASSES} passes has a validation loss of {losses[0]:.3f} "
            f"and a test accuracy of {means[0]:.2f} %, one pass {losses[1]:.3f} and {means[1]:.2f} "
            "%."
        )
    return " ".join(told)


def times(plain: dict, noisy: dict) -> str:
    """A sentence on the time of training and prediction with noise and without."""
    return (
        f"An epoch takes {noisy['epoch, ms']:.3g} ms with {noisy['noise']} and "
        f"{plain['epoch, ms']:.3g} ms without; a prediction {noisy['prediction, ms']:.3g} ms and "
        f"{plain['prediction, ms']:.3g} ms."
    )


@pictures.style()
def draw(plain: Variant, noisy: dict[str, list[Variant]]) -> plt.Figure:
    """Draws accuracy by rate, and the learning curves at the best rate of each kind."""
    figure, (left, right) = panels(2)
    draw_over(left, RATES, noisy, plain, "share left out").set_title(
        "At all rates; bars: all seeds"
    )
    chosen = [plain, *map(best, noisy.values())]
    curves = {variant.name: variant.histories for variant in chosen}
    pictures.learning_curves(right, curves, quantity="valid_loss")
    right.set_title("Each at its best rate; bands: all seeds")
    return figure


def main() -> None:
    """Trains without noise, with each kind of noise at each rate, and with each pooling."""
    topic = Topic.of(__doc__, epochs=40)
    plain = topic.train("no noise", topic.mlp(), TX)
    noisy = dropped(topic)
    winners = {kind: best(variants) for kind, variants in noisy.items()}
    makes = convolutional(topic)
    epochs = -(-topic.options.epochs // 2)  # convolutions take longer
    pools = [topic.train(name, make, TX, epochs=epochs) for name, make in makes.items()]
    makes["no noise"] = topic.mlp()
    for kind, variant in winners.items():
        rate = RATES[noisy[kind].index(variant)]
        makes[variant.name] = topic.mlp(**{KINDS[kind]: jnp.float32(rate)})
    epoch_ms = topic.epoch_ms(makes, TX)
    chosen = [plain, *winners.values()]
    of_one = [row(topic, variant, epoch_ms[variant.name]) for variant in chosen + pools]
    pairs = [
        (one, of_ensemble(topic, one, variant))
        for one, variant in zip(of_one[1:], winners.values(), strict=False)
    ]
    conclusion = (
        f"{verdict(chosen, plain)} {ensembles(pairs)} {times(of_one[0], of_one[1])} Of the "
        f"convolutional networks: {verdict(pools, pools[0])}"
    )
    rows = of_one + [many for _, many in pairs]
    topic.finish(rows, {"dropout": draw(plain, noisy)}, conclusion, rates=RATES)


if __name__ == "__main__":
    main()
