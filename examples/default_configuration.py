"""The default configuration for a deep network, and changes of one part.

Géron (2017), chapter 11, table 11-2: He initialisation, ELU, batch normalisation, dropout, Adam, no
learning rate schedule. First, each part is left out or replaced by an older technique. Then follow
the chapter's variants: a schedule if there is no good constant rate, augmentation for little data,
ℓ1 or FTRL for a sparse model, and leaky ReLU without normalisation for a fast one. Each row uses
the best of three learning rates.

python examples/default_configuration.py --data digits --output output/default_configuration
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import optax
from chapter import moved
from topic_pictures import panels
from topics import BATCH, Topic, Variant, milliseconds, share_of_zeros, verdict

import jaxopt_cards as jc
from jaxopt_cards import pictures

DEFAULT = {"kernel_init": "he_normal", "activation": "elu", "batch_norm": True}
DEFAULT |= {"dropout_rate": 0.2, "batch_norm_momentum": 0.9}
RATES = (1e-3, 3e-3, 1e-2)
# Factors of the learning rate for ℓ1 with Adam, and for FTRL.
L1, FTRL_L1 = 0.2, 0.1


@dataclass(frozen=True)
class Configuration:
    """The differences of a configuration from the default."""

    model: dict = field(default_factory=dict)
    make_tx: Callable[..., optax.GradientTransformation] = jc.adam
    rates: tuple[float, ...] = RATES
    settings: dict = field(default_factory=dict)


def sparse_adam(learning_rate) -> optax.GradientTransformation:
    """Adam, followed by a soft threshold."""
    return jc.chain(jc.adam(learning_rate), jc.proximal_l1(learning_rate * L1, "kernel"))


def sparse_ftrl(learning_rate) -> optax.GradientTransformation:
    """FTRL with ℓ1."""
    return jc.ftrl(learning_rate, initial_accumulator_value=0.0, l1_regularization_strength=FTRL_L1)


def configurations(topic: Topic) -> dict[str, Configuration]:
    """The default, the default without each part, and the chapter's variants."""
    steps = topic.options.epochs * -(-len(topic.images.train.y) // BATCH)

    def decaying_adam(learning_rate):
        return jc.adam(jc.schedules.exponential_decay(learning_rate, steps, 0.01))

    fast = {"activation": "leaky_relu", "batch_norm": False}
    return {
        "default": Configuration(),
        "large weights, not He": Configuration({"kernel_init": "normal"}),
        "logistic, not ELU": Configuration({"activation": "logistic"}),
        "no batch normalisation": Configuration({"batch_norm": False}),
        "no dropout": Configuration({"dropout_rate": 0.0}),
        "gradient descent, not Adam": Configuration(make_tx=jc.sgd, rates=(3e-2, 1e-1, 3e-1)),
        "default + exponential decay": Configuration(make_tx=decaying_adam),
        "default + augmentation": Configuration(settings={"augment": moved(topic.options.data)}),
        "sparse: ℓ1": Configuration(make_tx=sparse_adam),
        "sparser: FTRL, ℓ1": Configuration(make_tx=sparse_ftrl, rates=(1e-1, 3e-1, 1.0)),
        "fast: leaky ReLU, no normalisation": Configuration(fast),
    }


def row(variant: Variant, x: np.ndarray) -> dict:
    """The table: accuracy, zeros and time of each configuration."""
    return {
        "configuration": variant.name,
        "rate": variant.rate,
        "loss": variant.loss,
        "test, %": variant.accuracy,
        "zeros, %": float(np.mean([share_of_zeros(result.model) for result in variant.results])),
        "ms": milliseconds(variant.results[0].model, x),
    }


def draw(variants: list[Variant]):
    """Draws the test accuracy of all seeds."""
    figure, (axis,) = panels(1, 7.5, 4.2)
    for height, variant in enumerate(reversed(variants)):
        axis.plot(variant.accuracy, [height] * len(variant.accuracy), "o", color="C0", alpha=0.6)
        axis.plot(np.mean(variant.accuracy), height, "|", ms=18, mew=2, color="C1")
    axis.axvline(np.mean(variants[0].accuracy), color="gray", lw=1, ls="--")
    axis.set_yticks(range(len(variants)), [variant.name for variant in reversed(variants)])
    axis.set(title="One part changed: each seed and the mean; dashed: the default")
    axis.set_xlabel("test accuracy, %")
    return figure


@pictures.style()
def main() -> None:
    """Trains each configuration at each learning rate."""
    topic = Topic.of(__doc__, epochs=30)
    variants = [
        topic.tune(name, topic.mlp(**DEFAULT | one.model), one.make_tx, one.rates, **one.settings)
        for name, one in configurations(topic).items()
    ]
    rows = [row(variant, topic.images.test.x) for variant in variants]
    topic.finish(
        rows,
        {"default_configuration": draw(variants)},
        verdict(variants, variants[0]),
        l1=L1,
        ftrl_l1=FTRL_L1,
    )


if __name__ == "__main__":
    main()
