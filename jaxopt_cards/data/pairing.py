"""Auxiliary tasks made from the data: same class or not, intact or corrupted."""

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
    r"""Draws pairs of examples, half of the same class and half of different classes.

    The label is 0 for the same class and 1 for different classes. The first of a pair is drawn from
    all examples, the second from all others of the required class or classes. Pairs are drawn with
    replacement, in random order.

    Equation:
        .. math:: S = \{((x_i, x_j), [y_i \ne y_j]) : i \ne j\}

    Args:
        examples: inputs and labels; at least two classes, each of at least two examples.
        n: number of pairs. If odd, one more has different classes. Géron's notebook: 500.
        seed: int in [0, inf); seed of the pairs.

    Returns:
        `Examples`: `x` of shape (n, 2, features), `y` int32 of zeros and ones.

    Raises:
        ValueError: a number is outside its range; inputs and labels have different lengths; there
            are fewer than two classes, or a class has only one example.

    References:
        Jane Bromley et al. (1994), Signature Verification using a "Siamese" Time Delay Neural
        Network. Géron (2017), chapter 11, "Pretraining on an Auxiliary Task" and exercise 10.

    Use when: you know which images belong together, but few have the labels that you need.
    Avoid when: the labels are those that you need; train on them.

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
        expected = "have two or more classes with two or more examples each"
        raise HyperparameterError("examples", expected, have)
    # Sorted by class, the examples of one class are contiguous, and all others follow them, modulo
    # the number of examples.
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
    r"""Makes a corrupted copy of each image: good has label 1, corrupted 0.

    Half of the pixels of a corrupted image come from another image, in irregular patches: where
    smooth noise is below its median. Short pieces of lines still look right, so a network must look
    at the whole image. The labels of the examples are not used.

    Equation:
        .. math::
            \tilde x_i = m_i \odot x_i + (1 - m_i) \odot x_j, \qquad
                m_i(p) = [d_i(p) > \operatorname{median} d_i]

        with :math:`d_i` Gaussian noise smoothed over `sigma` pixels, :math:`j \ne i` uniform.

    Args:
        examples: inputs, of shape (n, features), and labels.
        image_shape: (height, width), positive integers whose product is the number of features.
        sigma: width in pixels of the Gaussian that smooths the noise.
            Hinton blurs "repeatedly"; 3 makes patches of about half a digit of MNIST.
        seed: int in [0, inf); seed of the noise and of the other images.

    Returns:
        `Examples` of twice the length: `x` has the good images, then the corrupted ones in the same
        order; `y` int32, 1 for good and 0 for corrupted.

    Raises:
        ValueError: a number is outside its range; inputs and labels have different lengths; there
            are fewer than two examples, or they have another shape.

    References:
        Geoffrey Hinton (2022), The Forward-Forward Algorithm: hybrids of two digits as negative
        data. Ronan Collobert, Jason Weston (2008), A Unified Architecture for Natural Language
        Processing: sentences with a word replaced. Géron (2017), chapter 11, "Pretraining on an
        Auxiliary Task".

    Use when: there are many images but few labels.
    Avoid when: images look intact even with parts exchanged, as textures do.

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
    """Which half of the pixels of each image to keep: booleans, (n, height · width)."""
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
        expected = f"have x of shape (n >= 2, {height * width})"
        raise HyperparameterError("examples", expected, x.shape)
    return height, width
