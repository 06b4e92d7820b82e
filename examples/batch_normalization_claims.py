"""Batch normalisation: what Géron's chapter 11 says of it, claim by claim.

Networks with logistic units, with inputs from 0 to 255, with dropout, and at a high learning rate
are trained with and without batch normalisation. Then the time of a prediction is measured. Other
initial weights and more learning rates are in `batch_normalization.py`.

python examples/batch_normalization_claims.py --output output/batch_normalization_claims
python examples/batch_normalization_claims.py --data mnist --epochs 5
"""

import numpy as np
import optax
from topic_pictures import panels
from topics import Topic, Variant, claim, milliseconds, upheld

import jaxopt_cards as jc
from jaxopt_cards import data, layers, pictures

NORM = layers.BatchNorm(momentum=0.9, epsilon=1e-3)  # the chapter's numbers
RATE = 1e-3
HIGH = 0.03
DESCENT = 0.1  # the rate of gradient descent
TRAIN = 10_000  # images of MNIST
DROPOUT = 0.3
UNSCALED = 255.0


def both(
    topic: Topic,
    name: str,
    scale: float = 1.0,
    tx: optax.GradientTransformation | None = None,
    **settings,
) -> tuple[Variant, Variant]:
    """Trains without and with batch normalisation, on inputs times `scale`."""
    train, valid = (
        data.Examples(np.asarray(x * scale, np.float32), y)
        for x, y in (topic.images.train, topic.images.valid)
    )
    plain, normalised = (
        topic.train(
            f"{name}, {way}",
            topic.mlp(batch_norm=norm, **settings),
            tx or jc.adam(RATE),
            train=train,
            valid=valid,
        )
        for way, norm in (("without", False), ("with", NORM))
    )
    return plain, normalised


def by_accuracy(of: str, pair: tuple[Variant, Variant], says: str) -> dict:
    """Whether batch normalisation raises the validation accuracy by more than the spread."""
    plain, normalised = (variant.valid_accuracy for variant in pair)
    gain = np.mean(normalised) - np.mean(plain)
    holds = gain > np.hypot(np.std(plain), np.std(normalised))
    return claim(of, "validation accuracy, %: with, without", normalised, plain, holds, says)


def of_dropout(plain: tuple[Variant, Variant], dropped: tuple[Variant, Variant]) -> dict:
    """Whether dropout lowers the validation loss less with batch normalisation."""
    without, normalised = (a.loss - b.loss for a, b in zip(plain, dropped, strict=True))
    says = "Dropout gains less validation loss where the network is normalised."
    measured = "validation loss that dropout gains: with, without"
    return claim("dropout", measured, normalised, without, normalised < without, says)


def of_speed(pair: tuple[Variant, Variant]) -> list[dict]:
    """Whether the training loss is larger in the first epoch, and smaller in the last."""

    def losses(variant: Variant, epoch: int) -> list[float]:
        return [float(history.train_loss[epoch]) for history in variant.histories]

    plain, normalised = pair
    first = losses(normalised, 0), losses(plain, 0)
    last = losses(normalised, -1), losses(plain, -1)
    return [
        claim(
            "the first epoch",
            "training loss: with, without",
            *first,
            np.mean(first[0]) > np.mean(first[1]),
            "Training is slow at first.",
        ),
        claim(
            "the last epoch",
            "training loss: with, without",
            *last,
            np.mean(last[0]) < np.mean(last[1]),
            "Training is faster later.",
        ),
    ]


def of_time(pair: tuple[Variant, Variant], x: np.ndarray) -> dict:
    """Whether a prediction takes longer with batch normalisation."""
    plain, normalised = (milliseconds(variant.results[0].model, x) for variant in pair)
    says = "Prediction is slower with batch normalisation."
    return claim(
        "prediction", "least ms: with, without", normalised, plain, normalised > plain, says
    )


@pictures.style()
def main() -> None:
    """Trains all pairs, judges the claims, and draws the learning curves."""
    topic = Topic.of(__doc__, epochs=20, train=TRAIN)
    plain = both(topic, "ELU")
    logistic = both(topic, "logistic", activation="logistic", kernel_init="logistic_normal")
    high = both(topic, f"ELU at rate {HIGH:g}", tx=jc.adam(HIGH))
    descent = both(
        topic,
        "logistic, SGD",
        tx=jc.sgd(DESCENT),
        activation="logistic",
        kernel_init="logistic_normal",
    )
    unscaled = both(topic, "inputs to 255", UNSCALED)
    dropped = both(topic, "dropout", dropout_rate=DROPOUT)
    rows = [
        by_accuracy("logistic units", logistic, "A saturating activation becomes trainable."),
        by_accuracy(
            "logistic units, SGD", descent, "It becomes trainable by gradient descent, too."
        ),
        by_accuracy("unscaled inputs", unscaled, "Inputs need no scaling."),
        by_accuracy("a high rate", high, "A higher learning rate can be used."),
        *of_speed(plain),
        of_dropout(plain, dropped),
        of_time(plain, np.concatenate([topic.images.test.x] * 4)),
    ]
    figure, axes = panels(3, 4.2, 3.4, rows=2)
    titles = {
        "Logistic units": logistic,
        f"Logistic units, SGD at {DESCENT:g}": descent,
        "Inputs from 0 to 255": unscaled,
        "Dropout": dropped,
        f"ELU at a rate of {HIGH:g}": high,
        f"ELU at a rate of {RATE:g}": plain,
    }
    for ax, (title, pair) in zip(axes, titles.items(), strict=True):
        curves = {variant.name: variant.histories for variant in pair}
        pictures.learning_curves(ax, curves)
        ax.set_title(title)
    topic.finish(
        rows,
        {"claims": figure},
        upheld(rows),
        rate=RATE,
        high=HIGH,
        descent=DESCENT,
        dropout=DROPOUT,
    )


if __name__ == "__main__":
    main()
