"""Images moved and bent: where each pixel's value comes from, and what it is there.

Both coordinates of these sources are, along a row of pixels, sums of a few fixed curves. A `Part`
holds the curves and, for each image and row, how much there is of each. All parts together are one
product of matrices, which a CPU gets done about twice as fast as sums: XLA would compute those anew
for each of the four pixels that an interpolation reads.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Part(NamedTuple):
    """Something that moves pixels, or the place where they are."""

    weights: jax.Array  # shape (2, batch, height, curves); first the rows, then the columns
    curves: np.ndarray  # shape (curves, width)


def affine(drawn: jax.Array, size: Sequence[int]) -> Part:
    """Every pixel's place under one matrix an image.

    `drawn` has shape (5, batch): angle, growth, shear, and the way down and right.
    """
    angle, growth, shear, down, right = drawn
    middle, centre = ((length - 1) / 2 for length in size)
    rows, columns = np.arange(size[0]) - middle, np.arange(size[1]) - centre
    cos, sin = jnp.cos(angle) / (1 + growth), jnp.sin(angle) / (1 + growth)
    by_row = jnp.stack([cos - shear * sin, sin + shear * cos])[..., None]
    by_column = jnp.stack([-sin, cos])[..., None]
    moved = jnp.stack([middle + down, centre + right])[..., None]
    at_centre = by_row * jnp.asarray(rows, drawn.dtype)[None, None] + moved
    weights = jnp.stack([at_centre, jnp.broadcast_to(by_column, at_centre.shape)], axis=-1)
    return Part(weights, np.stack([np.ones_like(columns), columns]))


def smooth(
    key: jax.Array, strength: float, sigma: float, batch: int, size: Sequence[int], dtype: Any
) -> Part:
    """A smooth random way for every pixel, its standard deviation `strength` along each axis."""
    rows, columns = (smooth_modes(length, sigma) for length in size)
    # Laid out such that this, too, is one product of two matrices instead of one an image.
    noise = jax.random.normal(key, (rows.shape[1], 2 * batch * columns.shape[1]), dtype)
    weights = (jnp.asarray(strength * rows, dtype) @ noise).reshape(size[0], 2, batch, -1)
    return Part(jnp.moveaxis(weights, 0, 2), columns.T)


def sources(parts: Sequence[Part]) -> jax.Array:
    """Where the value of each pixel comes from, in rows and columns: (2, batch, height, width)."""
    weights = jnp.concatenate([part.weights for part in parts], axis=-1)
    curves = jnp.asarray(np.concatenate([part.curves for part in parts]), weights.dtype)
    # A GPU's usual precision would misplace pixels by hundredths.
    return jnp.matmul(weights, curves, precision=jax.lax.Precision.HIGHEST)


@functools.cache
def smooth_modes(size: int, sigma: float) -> np.ndarray:
    """The matrix that makes white noise as smooth as a Gaussian filter makes it, of variance 1.

    Smoothed noise has few degrees of freedom, 9 along 28 pixels with sigma 4: only these are drawn.
    """
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    variances, modes = np.linalg.eigh(np.exp(-((distance / (2 * sigma)) ** 2)))
    kept = variances > 1e-4 * variances.max()
    return modes[:, kept] * np.sqrt(variances[kept])


def resample(images: jax.Array, places: jax.Array) -> jax.Array:
    """Each pixel's value at its source, from the four pixels around it; zero outside."""

    def one(image: jax.Array, place: jax.Array) -> jax.Array:
        return jax.scipy.ndimage.map_coordinates(image, list(place), order=1)

    every_channel = jax.vmap(one, in_axes=(-1, None), out_axes=-1)
    return jax.vmap(every_channel, in_axes=(0, 1))(images, places)
