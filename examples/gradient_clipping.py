"""Gradient clipping: five methods for a recurrent network whose gradients explode.

A recurrent network reads an image in about thirty parts and applies the same matrix in each step,
so gradients through all steps can grow without bound. The matrix starts as the identity (Le, Jaitly
and Hinton 2015). The thresholds are powers of ten, chosen on validation data with one seed.

python examples/gradient_clipping.py --data digits --output output/gradient_clipping
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from topic_pictures import draw_rates, panels
from topics import BATCH, Topic, best, row_of_rates, verdict

import jaxopt_cards as jc
from jaxopt_cards import layers, pictures, training

UNITS, PARTS = 50, {"digits": 32, "mnist": 28}
RATES = (1e-4, 1e-3, 1e-2, 1e-1)
EXPLODES, WATCHED = 1e-3, 34  # the rate, and how many batches, of the first picture
CLIPPINGS = {
    "none": jc.identity,
    "by value, 0.1": functools.partial(jc.clip, 0.1),
    "by norm, 1": functools.partial(jc.clip_by_norm, 1.0),
    "by global norm, 1": functools.partial(jc.clip_by_global_norm, 1.0),
    "by root mean square, 0.01": functools.partial(jc.clip_by_block_rms, 0.01),
    "adaptive, 0.1": functools.partial(jc.adaptive_grad_clip, 0.1),
}


class Reader(nnx.Module):
    """Reads an image part by part into one hidden layer, then classifies it."""

    def __init__(self, pixels: int, classes: int, *, rngs: nnx.Rngs):
        """Makes the layers, the recurrent one with the identity as its kernel."""
        self.pixels = pixels
        self.read = nnx.Linear(pixels, UNITS, kernel_init=layers.he_normal, rngs=rngs)
        self.remember = nnx.Linear(
            UNITS, UNITS, use_bias=False, kernel_init=identity_matrix, rngs=rngs
        )
        self.logits = nnx.Linear(UNITS, classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of flattened images."""
        parts = jnp.swapaxes(self.read(x.reshape(len(x), -1, self.pixels)), 0, 1)
        matrix = self.remember.kernel[...]

        def step(hidden, part):
            return jax.nn.relu(part + hidden @ matrix), None

        return self.logits(jax.lax.scan(step, jnp.zeros(parts.shape[1:]), parts)[0])


def identity_matrix(key: jax.Array, shape: tuple, dtype=jnp.float32, **_) -> jax.Array:
    """An initialiser that makes the hidden layer keep its values."""
    return jnp.eye(*shape, dtype=dtype)


def clipped(clipping, learning_rate) -> optax.GradientTransformation:
    """Momentum, after clipping."""
    return jc.chain(clipping(), jc.momentum(learning_rate))


def first_losses(model: nnx.Module, images, name: str, rate: float) -> np.ndarray:
    """The loss of each of the first batches, including those that are not finite."""
    x, y = images.train
    stream = ((x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, WATCHED * BATCH, BATCH))
    # Weights that are not finite would raise an error.
    tx = jc.skip_nonfinite(clipped(CLIPPINGS[name], rate), max_consecutive=WATCHED)
    return training.fit_online(model, tx, stream).losses


def draw(topic: Topic, make, sweeps: dict) -> dict:
    """Draws the exploding loss, and accuracy by learning rate."""
    figure, (left, right) = panels(2, 4.7, 4.2)
    for name, style in zip(("none", "by value, 0.1", "by norm, 1"), ("-", "--", "-."), strict=True):
        losses = first_losses(make(rngs=nnx.Rngs(0)), topic.images, name, EXPLODES)
        left.semilogy(np.arange(1, len(losses) + 1), losses, ls=style, label=name)
    left.set(title=f"Loss of the first batches, rate {EXPLODES:g}", xlabel="batch", ylabel="loss")
    left.legend()
    draw_rates(right, sweeps)
    return {"gradient_clipping": figure}


@pictures.style()
def main() -> None:
    """Trains with each clipping at each rate."""
    topic = Topic.of(__doc__, epochs=20)
    pixels = topic.images.train.x.shape[1] // PARTS[topic.options.data]
    make = functools.partial(Reader, pixels, int(topic.images.train.y.max()) + 1)
    sweeps = {
        name: topic.sweep(name, make, functools.partial(clipped, clipping), RATES)
        for name, clipping in CLIPPINGS.items()
    }
    chosen = [best(sweep) for sweep in sweeps.values()]
    rows = [row_of_rates("clipping", sweep) for sweep in sweeps.values()]
    exploded = {name: sum(at.failed for at in sweep) for name, sweep in sweeps.items()}
    runs = len(RATES) * topic.options.seeds
    conclusion = (
        f"Clipping {verdict(chosen, chosen[0])} Without clipping {exploded['none']} of {runs} runs "
        f"ended with a loss that is not finite, with clipping at most "
        f"{max(count for name, count in exploded.items() if name != 'none')} of {runs}."
    )
    topic.finish(rows, draw(topic, make, sweeps), conclusion, rates=RATES, units=UNITS)


if __name__ == "__main__":
    main()
