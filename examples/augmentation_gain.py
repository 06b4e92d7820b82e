"""Gains of augmentation: each change of the images, weak and strong.

`augmentation.py` shows the changes; here the network is trained with them. Every batch is augmented
inside the compiled epoch. Flipping does not keep the label of some digits, and the table shows the
cost. The chapter says that white noise does not help, since there is nothing in it to learn; it is
tried as well. Half or full strength is chosen by the validation loss.

python examples/augmentation_gain.py --output output/augmentation_gain
"""

import functools
from collections.abc import Callable, Sequence

import jax
import matplotlib.pyplot as plt
import numpy as np
from augmentation import SETTINGS, for_size
from topic_pictures import draw_over, panels
from topics import Topic, Variant, best, verdict

import jaxopt_cards as jc
from jaxopt_cards import data, pictures

STRENGTHS = (0.5, 1.0)  # of the sheet's settings
OPERATIONS = ("shift", "rotation", "scale", "shear", "elastic", "all five, milder")
NOISE = 0.4  # standard deviation at full strength; pixels lie in [0, 1]
TX = jc.adam(1e-3)


def settings(operation: str, strength: float, side: int) -> dict:
    """The settings of the sheet, at this strength, for images of this size."""
    weaker = {key: value * strength for key, value in SETTINGS[operation].items()}
    return for_size(weaker, side)


def trained(topic: Topic, operation: str, strength: float, side: int) -> Variant:
    """Trains with one change at each strength; flipping has only one."""
    chosen = SETTINGS["flip"] if operation == "flip" else settings(operation, strength, side)
    name = operation if operation == "flip" else f"{operation} × {strength:g}"
    return topic.train(name, topic.mlp(), TX, augment=data.augment((side, side), **chosen))


@functools.cache  # one object for all seeds, which then share the compiled program
def white_noise(deviation: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Adds independent noise to each pixel."""
    return lambda key, x: x + deviation * jax.random.normal(key, x.shape, x.dtype)


def noisy(topic: Topic, strength: float) -> Variant:
    """Trains with white noise."""
    augment = white_noise(strength * NOISE)
    return topic.train(f"white noise × {strength:g}", topic.mlp(), TX, augment=augment)


def told(plain: Variant, noise: Variant, others: Sequence[Variant]) -> str:
    """A sentence on the gain of white noise, beside that of the best other change."""
    gain, most = (np.mean(v.accuracy) - np.mean(plain.accuracy) for v in (noise, best(others)))
    spread = np.hypot(np.std(noise.accuracy), np.std(plain.accuracy))
    here = "it does not, beyond the spread of seeds" if gain <= spread else "it does"
    return (
        f"The chapter says that white noise does not help. Here {here}: it changes the test "
        f"accuracy by {gain:+.2f} points, and {best(others).name} by {most:+.2f}."
    )


def row(variant: Variant) -> dict:
    """The row of the table for one change."""
    return {
        "augmentation": variant.name,
        "best epoch": float(np.mean([result.best_epoch for result in variant.results])),
        "validation loss": variant.loss,
        "test accuracy, %": variant.accuracy,
    }


@pictures.style()
def draw(plain: Variant, lines: dict[str, list[Variant]], flip: Variant) -> plt.Figure:
    """Draws accuracy by strength, and learning curves of the best and the worst change."""
    figure, (left, right) = panels(2)
    from_plain = {name: [plain, *variants] for name, variants in lines.items()}
    draw_over(left, (0, *STRENGTHS), from_plain, label="strength, 1: that of the sheet")
    left.set(title="Test accuracy; bars: all seeds", xticks=(0, *STRENGTHS))
    winner = best(variant for variants in lines.values() for variant in variants)
    shown = {variant.name: variant.histories for variant in (plain, winner, flip)}
    pictures.learning_curves(right, shown, quantity="valid_loss")
    right.set_title("Validation loss; bands: all seeds")
    return figure


@pictures.style()
def draw_sheet(topic: Topic, operation: str, side: int) -> plt.Figure:
    """Draws the best change for one image of each digit."""
    figure, (ax,) = panels(1, width=6, height=6)
    images = data.per_class(topic.images.valid, 1).x.reshape(-1, side, side)
    change = data.augment((side, side), **settings(operation, 1.0, side))
    versions = [np.asarray(change(jax.random.key(seed), images)) for seed in range(9)]
    pictures.augmentation_sheet(ax, images, versions)
    ax.set_title(f"{operation}, at full strength")
    return figure


def main() -> None:
    """Trains with each change at each strength."""
    topic = Topic.of(__doc__, epochs=40)
    side = round(topic.images.train.x.shape[1] ** 0.5)
    plain = topic.train("none", topic.mlp(), TX)
    lines = {
        operation: [trained(topic, operation, strength, side) for strength in STRENGTHS]
        for operation in OPERATIONS
    }
    noise = [noisy(topic, strength) for strength in STRENGTHS]
    flip = trained(topic, "flip", 1.0, side)
    tuned = {operation: best(variants) for operation, variants in lines.items()}
    winner = min(tuned, key=lambda operation: tuned[operation].loss)
    variants = [plain, *tuned.values(), best(noise), flip]
    said = f"{verdict(variants, plain)} {told(plain, best(noise), list(tuned.values()))}"
    gain = draw(plain, lines | {"white noise": noise}, flip)
    topic.finish(
        [row(variant) for variant in variants],
        {"gain": gain, "sheet": draw_sheet(topic, winner, side)},
        said,
        strengths=STRENGTHS,
        noise=NOISE,
    )


if __name__ == "__main__":
    main()
