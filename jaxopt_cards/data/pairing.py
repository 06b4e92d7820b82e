"""Tasks made of data alone: is this pair of one class, is this image whole."""

from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_cards.core.checks import HyperparameterError, check_count, check_seed
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.data.examples import Examples
from jaxopt_cards.data.resampling import smooth_modes


@declare
def pairs(examples: Examples, n: Annotated[int, "[2, inf)"], *, seed: int = 0) -> Examples:
    r"""Draws pairs of images, half of one class and half of two: are these the same digit?

    Label 0 is the same class, 1 a different one. A pair of one class is of two different examples.
    The first of a pair may be any example; the second is any other that makes the pair what it is
    to be. Pairs are drawn with replacement, and both kinds are mixed.

    Equation:
        .. math:: S = \{((x_i, x_j), [y_i \ne y_j]) : i \ne j\}

    Args:
        examples: inputs and labels; at least two classes, each of at least two examples.
        n: whole number > 1; pairs. An odd one is of two classes. The notebook's batches: 500.
        seed: whole number >= 0.

    Returns:
        `Examples`: `x` of shape (n, 2, features), `y` int32 of zeros and ones.

    Raises:
        ValueError: a number outside its range; inputs and labels of unequal lengths; fewer than two
            classes, or a class of one example.

    References:
        Jane Bromley et al. (1994), Signature Verification using a "Siamese" Time Delay Neural
        Network. Chapter 11, "Pretraining on an Auxiliary Task" and exercise 10.

    Use when: it is known which images belong together, but few have the labels you want.
    Avoid when: the labels are those you want: train on them.

    Example:
        >>> from jaxopt_cards import data
        >>> same_or_not = data.pairs(data.digits().train, 1000)
        >>> same_or_not.x.shape, same_or_not.y.mean()
        ((1000, 2, 64), np.float64(0.5))
    """
    check_seed("seed", seed)
    _check_lengths(examples)
    labels, classes, counts = np.unique(examples.y, return_inverse=True, return_counts=True)
    if len(labels) < 2 or counts.min() < 2:
        have = dict(zip(labels.tolist(), counts.tolist(), strict=True))
        expected = "have two classes or more, each of two examples or more"
        raise HyperparameterError("examples", expected, have)
    # Sorted by class, the examples of one class lie in a row, and those of all others are the rest
    # of the circle.
    by_class = np.argsort(classes, kind="stable")
    starts = np.cumsum(counts) - counts
    first_key, kind_key, second_key = jax.random.split(jax.random.key(seed), 3)
    first = np.asarray(jax.random.randint(first_key, (n,), 0, len(by_class)))
    y = np.asarray(jax.random.permutation(kind_key, n) >= n // 2).astype(np.int32)
    own = classes[by_class[first]]
    start, count = starts[own], counts[own]
    choices = np.where(y == 0, count - 1, len(by_class) - count).astype(np.int32)
    drawn = np.asarray(jax.random.randint(second_key, (n,), 0, choices))
    same = start + (first - start + 1 + drawn) % count
    other = (start + count + drawn) % len(by_class)
    second = np.where(y == 0, same, other)
    return Examples(examples.x[by_class[np.stack([first, second], axis=1)]], y)


@declare
def corrupted(
    examples: Examples,
    *,
    image_shape: Sequence[int] = (28, 28),
    sigma: Annotated[float, "[0.5, 1000]"] = 3.0,
    seed: int = 0,
) -> Examples:
    r"""Gives each image once as it is, labelled good, and once spoilt, labelled bad.

    Half of a bad image is another image's: patches of an irregular form, where smooth noise is
    above its median. So short pieces of lines look right, and only the whole tells good from bad.
    The labels of the examples are not used.

    Equation:
        .. math::
            \tilde x_i = m_i \odot x_i + (1 - m_i) \odot x_j, \qquad
                m_i(p) = [d_i(p) > \operatorname{median} d_i]

        with :math:`d_i` Gaussian noise smoothed over `sigma` pixels, :math:`j \ne i` drawn evenly.

    Args:
        examples: inputs, of shape (n, features), and labels.
        image_shape: (height, width), whole numbers > 0 whose product is the number of features.
        sigma: float in [0.5, 1000]; pixels over which Gaussian smoothing makes neighbours go
            together. Hinton blurs "repeatedly"; 3 makes patches of about half a digit of MNIST's.
        seed: whole number >= 0.

    Returns:
        `Examples` of twice the length: `x` the good ones, then the bad ones in the same order, `y`
        int32, 1 for good and 0 for bad.

    Raises:
        ValueError: a number outside its range; inputs and labels of unequal lengths, fewer than two
            examples, or not of this image shape.

    References:
        Geoffrey Hinton (2022), The Forward-Forward Algorithm: hybrids of two digits as negative
        data. Ronan Collobert, Jason Weston (2008), A Unified Architecture for Natural Language
        Processing: sentences with a word replaced. Chapter 11, "Pretraining on an Auxiliary Task".

    Use when: images are many and labels few.
    Avoid when: an image stays right with parts exchanged, such as a texture.

    Example:
        >>> from jaxopt_cards import data
        >>> train = data.digits().train
        >>> good_or_bad = data.corrupted(train, image_shape=(8, 8), sigma=1)
        >>> good_or_bad.x.shape, good_or_bad.y.mean()
        ((2194, 64), np.float64(0.5))
    """
    check_seed("seed", seed)
    _check_lengths(examples)
    size = _checked_size(image_shape, examples.x)
    other_key, noise_key = jax.random.split(jax.random.key(seed))
    n = len(examples.x)
    others = (np.arange(n) + np.asarray(jax.random.randint(other_key, (n,), 1, n))) % n
    kept = np.asarray(_patches(noise_key, n, size, float(sigma)))
    bad = np.where(kept, examples.x, examples.x[others])
    y = np.repeat(np.array([1, 0], np.int32), n)
    return Examples(np.concatenate([examples.x, bad]), y)


def _patches(key: jax.Array, n: int, size: tuple[int, int], sigma: float) -> jax.Array:
    """For each image which half of its pixels to keep: (n, height · width), truth values."""
    rows, columns = (jnp.asarray(smooth_modes(length, sigma), jnp.float32) for length in size)
    noise = jax.random.normal(key, (n, rows.shape[1], columns.shape[1]), jnp.float32)
    smooth = jnp.einsum("hr,nrc,wc->nhw", rows, noise, columns).reshape(n, -1)
    return smooth > jnp.median(smooth, axis=1, keepdims=True)


def _check_lengths(examples: Examples) -> None:
    if not isinstance(examples, Examples):
        raise HyperparameterError("examples", "be Examples(x, y)", type(examples))
    shapes = examples.x.shape, examples.y.shape
    if examples.y.ndim != 1 or examples.x.ndim < 2 or len(examples.x) != len(examples.y):
        expected = "have x of shape (n, ...) and y of shape (n,)"
        raise HyperparameterError("examples", expected, shapes)


def _checked_size(image_shape: Sequence[int], x: np.ndarray) -> tuple[int, int]:
    if not isinstance(image_shape, Sequence) or len(image_shape) != 2:
        raise HyperparameterError("image_shape", "be (height, width)", image_shape)
    for length in image_shape:
        check_count("each of image_shape", length)
    height, width = map(int, image_shape)
    if x.shape[1:] != (height * width,) or len(x) < 2:
        expected = f"have x of shape (2 or more, {height * width})"
        raise HyperparameterError("examples", expected, x.shape)
    return height, width
