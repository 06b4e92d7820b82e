"""Pictures of images: data sets, augmentation, and layers with visible noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.axes import Axes

from jaxopt_cards import data, layers, pictures
from jaxopt_cards.cards.gallery.drawing import draws
from jaxopt_cards.pictures.images import draw_tile, sheet, tiles
from jaxopt_cards.pictures.theme import colour, tones

_SIDE = 8


@functools.cache
def _digits() -> data.Splits:
    return data.digits()


@draws("digits")
def _images(ax: Axes, name: str) -> str:
    train = _digits().train
    tiles(ax, train.x[:40].reshape(-1, _SIDE, _SIDE), train.y[:40].astype(str), 10)
    sizes = ", ".join(str(len(split.y)) for split in _digits())
    return f"8×8 pixels: {sizes} images"


@draws("mnist")
def _mnist(ax: Axes, name: str) -> str:
    try:
        train = data.mnist(download=False).train
    except FileNotFoundError:
        ax.text(0.5, 0.5, "MNIST is not on this disk:\ndata.mnist() downloads it", ha="center")
        ax.set_axis_off()
        return "28×28 pixels"
    tiles(ax, train.x[:40].reshape(-1, 28, 28), train.y[:40].astype(str), 10)
    return f"28×28 pixels, {len(train.y):,} for training"


@draws("augment")
def _augment(ax: Axes, name: str) -> str:
    change = data.augment((_SIDE, _SIDE), shift=0.6, rotation=15, scale=0.1, elastic=0.4)
    x = jnp.asarray(_digits().train.x[:4])
    changed = jax.jit(jax.vmap(lambda key: change(key, x)))
    versions = changed(jax.random.split(jax.random.key(0), 6))
    pictures.augmentation_sheet(ax, x, np.asarray(versions))
    return "shift 0.6, rotation 15°, scale 0.1, elastic 0.4"


@draws("resize")
def _resized(ax: Axes, name: str) -> str:
    few = data.Examples(*(part[:5] for part in _digits().train))
    large = data.resize(few, (28, 28)).x.reshape(-1, 28, 28)
    blocks = np.kron(few.x.reshape(-1, _SIDE, _SIDE), np.ones((4, 4)))[:, 2:-2, 2:-2]
    tiles(ax, np.concatenate([blocks, large]), ["8×8"] * 5 + ["28×28"] * 5, 5)
    return "resize(examples, (28, 28))"


@draws("corrupted")
def _corrupted(ax: Axes, name: str) -> str:
    few = data.Examples(*(part[:60] for part in _digits().train))
    made = data.corrupted(few, image_shape=(_SIDE, _SIDE), sigma=1)
    rows = [np.flatnonzero(made.y == label)[:8] for label in (0, 1)]
    labels = ["corrupted" if label == 0 else "good" for label in (0, 1) for _ in range(8)]
    tiles(ax, made.x[np.concatenate(rows)].reshape(-1, _SIDE, _SIDE), labels, 8)
    return "half of a corrupted image is from another"


@draws("corrupted_tokens")
def _sentences(ax: Axes, name: str) -> str:
    words = np.array(["the", "a", "dog", "cat", "child", "sleeps", "runs", "they"])
    good = np.array([[0, 2, 5], [1, 3, 6], [0, 4, 5], [1, 2, 6], [0, 3, 5]])
    made = data.corrupted_tokens(good, len(words)).x.reshape(2, *good.shape)
    for (side, row, place), token in np.ndenumerate(made):
        replaced = token != good[row, place]
        shade = colour(ax, 1) if replaced else ax.xaxis.label.get_color()
        weight = "bold" if replaced else "normal"
        where = side * 3.4 + place, row + 0.5
        ax.text(*where, words[token], color=shade, weight=weight, ha="center", va="center")
    for side, said in enumerate(("1: good", "0: corrupted")):
        ax.text(side * 3.4 + 1, 0, said, ha="center", va="bottom", fontsize=8)
    sheet(ax, 6.4, len(good), above=0.4)
    ax.set_xlim(-0.6, 6)
    return "one word of each sentence is replaced"


@draws("pairs")
def _pairs(ax: Axes, name: str) -> str:
    made = data.pairs(_digits().train, 8)
    for place, (pair, label) in enumerate(zip(made.x, made.y, strict=True)):
        x, y = place % 4 * 2.5, place // 4 * 1.6
        for side, image in enumerate(pair):
            draw_tile(ax, np.asarray(image).reshape(_SIDE, _SIDE), x + side * 1.02, y)
        said = "different" if label else "same"
        ax.text(x + 1, y - 0.06, f"{label}: {said}", ha="center", va="bottom", fontsize=8)
    sheet(ax, 9.6, 2.6, above=0.4)
    return "pairs of the same or of different digits"


@draws("per_class", "subset")
def _counts(ax: Axes, name: str) -> str:
    train = _digits().train
    if name == "per_class":
        kept = np.bincount(data.per_class(train, 20).y, minlength=10)
        said = "per_class(train, 20)"
    else:
        made = data.subset(train, range(5, 10))
        kept = np.r_[np.zeros(5, int), np.bincount(made.y, minlength=5)]
        said = "subset(train, range(5, 10))"
    ax.bar(range(10), np.bincount(train.y), color="none", edgecolor=colour(ax, 6), label="all")
    ax.bar(range(10), kept, color=colour(ax, 0), label="kept")
    ax.set(xticks=range(10), xlabel="class", ylabel="examples")
    ax.margins(y=0.25)
    ax.legend(loc="upper right", ncols=2)
    return said


@draws("Dropout")
def _dropout(ax: Axes, name: str) -> str:
    outputs = layers.Dropout(0.5, rngs=nnx.Rngs(0))(jnp.ones((6, 24)))
    return _mask(ax, outputs, "example", "outputs")


@draws("DropConnect")
def _drop_connect(ax: Axes, name: str) -> str:
    layer = layers.DropConnect(8, 16, 0.5, rngs=nnx.Rngs(0), kernel_init=nnx.initializers.ones)
    # For unit vectors as inputs, the outputs are the rows of the kernel that was used.
    return _mask(ax, layer(jnp.eye(8)), "input", "weights")


def _mask(ax: Axes, values: jax.Array, y: str, what: str) -> str:
    numbers = np.asarray(values)
    ax.imshow(numbers, cmap=tones(ax), vmin=0, vmax=2 * numbers.max(), aspect="auto")
    for row, column in np.argwhere(numbers >= 0):
        text = f"{numbers[row, column]:.0f}"
        ax.text(column, row, text, ha="center", va="center", fontsize=7)
    ax.set(xlabel="unit", ylabel=y, xticks=[], yticks=[])
    return f"{what} that were 1, dropped at rate 0.5"


@draws("stochastic_pool", "StochasticPool")
def _pool(ax: Axes, name: str) -> str:
    image = _digits().train.x[2].reshape(1, _SIDE, _SIDE, 1)
    image = jnp.asarray(image)
    if name == "StochasticPool":
        layer = layers.StochasticPool((2, 2), rngs=nnx.Rngs(0))
        drawn = [layer(image) for _ in range(3)]
        layer.eval()
        pooled = [layer(image), *drawn]
    else:
        pool = jax.jit(lambda key: layers.stochastic_pool(image, (2, 2), key=key))
        keys = jax.random.split(jax.random.key(0), 3)
        pooled = [layers.stochastic_pool(image, (2, 2)), *map(pool, keys)]
    tiles = [image, *pooled]
    names = ["input", "evaluation", *["training"] * 3]
    for place, (tile, said) in enumerate(zip(tiles, names, strict=True)):
        draw_tile(ax, np.asarray(tile)[0, :, :, 0], place * 1.2, 0)
        ax.text(place * 1.2 + 0.5, -0.06, said, ha="center", va="bottom", fontsize=8)
    sheet(ax, 5.85, 1.0, above=0.3)
    return "2×2 windows: weighted mean, or a random one"
