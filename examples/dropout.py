"""Dropout and DropConnect: units, inputs or weights dropped at random, at several rates.

The rate of `layers.Dropout` is an array of the model, so all rates of one kind share one compiled
program. The rates in the table are chosen by the validation loss. Finally, a small convolutional
network uses max pooling, average pooling, or stochastic pooling, which adds similar noise.

python examples/dropout.py --output output/dropout
"""

import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from flax import nnx
from topic_pictures import draw_over, panels
from topics import Topic, Variant, best, verdict

import jaxopt_cards as jc
from jaxopt_cards import layers, pictures

RATES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
KINDS = {
    "dropout": "dropout_rate",
    "dropout of inputs": "input_dropout_rate",
    "DropConnect": "drop_connect_rate",
}
TX = jc.adam(1e-3)


class Pooled(nnx.Module):
    """Two convolutions, each followed by pooling, and an output layer."""

    def __init__(self, pool: str, side: int, classes: int, *, rngs: nnx.Rngs):
        """Keeps the pooling as a layer, since stochastic pooling has random streams."""
        self.side = side
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.second = nnx.Conv(16, 32, (3, 3), rngs=rngs)
        self.logits = nnx.Linear(32 * (side // 4) ** 2, classes, rngs=rngs)
        plain = {"max": nnx.max_pool, "mean": nnx.avg_pool}
        self.pool = (
            functools.partial(plain[pool], window_shape=(2, 2), strides=(2, 2))
            if pool in plain
            else layers.StochasticPool((2, 2), rngs=rngs)
        )

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


def pooled(topic: Topic) -> list[Variant]:
    """Trains the small convolutional network with each pooling."""
    pixels, classes = topic.images.train.x.shape[1], int(topic.images.train.y.max()) + 1
    settings = {"side": round(pixels**0.5), "classes": classes}
    epochs = -(-topic.options.epochs // 2)  # convolutions take longer
    return [
        topic.train(
            f"{pool} pooling", functools.partial(Pooled, pool, **settings), TX, epochs=epochs
        )
        for pool in ("max", "mean", "stochastic")
    ]


def row(variant: Variant) -> dict:
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
    }


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
    chosen = [plain, *map(best, noisy.values())]
    pools = pooled(topic)
    topic.finish(
        [row(variant) for variant in chosen + pools],
        {"dropout": draw(plain, noisy)},
        f"{verdict(chosen, plain)} Of the convolutional networks: {verdict(pools, pools[0])}",
        rates=RATES,
    )


if __name__ == "__main__":
    main()
