"""Adam's state in 32, 16 and 8 bits: memory and accuracy.

`compress_state` wraps any optimizer, and rounds its state between steps. The learning rate is tuned
for each number of bits, by validation loss.

python examples/compressed_state.py --output output/compressed_state
python examples/compressed_state.py --data mnist --output output/compressed_state_mnist
"""

import jax
import matplotlib.pyplot as plt
from flax import nnx
from topic_pictures import draw_over, panels
from topics import Topic, Variant, best, verdict

import jaxopt_cards as jc
from jaxopt_cards import pictures

RATES = (2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
MAKERS = {
    "32 bits": jc.adam,
    "16 bits": lambda learning_rate: jc.compress_state(jc.adam(learning_rate), bits=16),
    "8 bits": lambda learning_rate: jc.compress_state(jc.adam(learning_rate), bits=8),
}


def state_bytes(topic: Topic, make_tx) -> tuple[int, float]:
    """Bytes of the optimizer's state, in all and per parameter, without creating it."""
    params = nnx.to_pure_dict(nnx.state(topic.mlp()(rngs=nnx.Rngs(0)), nnx.Param))
    state = jax.eval_shape(make_tx(1e-3).init, params)
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    return total, total / sum(leaf.size for leaf in jax.tree.leaves(params))


def row(topic: Topic, variant: Variant) -> dict:
    """The row of the table for one number of bits."""
    total, each = state_bytes(topic, MAKERS[variant.name])
    return {
        "Adam's state": variant.name,
        "kB": total / 1000,
        "bytes a parameter": each,
        "best rate": variant.rate,
        "validation loss": variant.loss,
        "test accuracy, %": variant.accuracy,
    }


@pictures.style()
def draw(swept: dict[str, list[Variant]], tuned: list[Variant]) -> plt.Figure:
    """Draws accuracy by learning rate, and the learning curves at the best rate."""
    figure, (left, right) = panels(2)
    draw_over(left, RATES, swept, label="learning rate", log=True)
    left.set_title("Adam, its state in fewer bits; bars: all seeds")
    curves = {f"{variant.name}, rate {variant.rate:g}": variant.histories for variant in tuned}
    pictures.learning_curves(right, curves, quantity="train_loss")
    right.set_title("Each at its best rate; bands: all seeds")
    return figure


def main() -> None:
    """Tunes the rate for each number of bits, and compares accuracy and memory."""
    topic = Topic.of(__doc__, epochs=30)
    swept = {name: topic.sweep(name, topic.mlp(), make, RATES) for name, make in MAKERS.items()}
    tuned = [best(variants) for variants in swept.values()]
    rows = [row(topic, variant) for variant in tuned]
    saved = rows[0]["kB"] / rows[-1]["kB"]
    topic.finish(
        rows,
        {"compressed_state": draw(swept, tuned)},
        f"{verdict(tuned, tuned[0])} {tuned[-1].name} take {saved:.1f} times less memory.",
        rates=RATES,
    )


if __name__ == "__main__":
    main()
