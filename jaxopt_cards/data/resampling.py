"""Resampling of images: the source coordinates of each pixel, and interpolation.

Along a row of pixels, both source coordinates are sums of a few fixed curves. A `Part` holds the
curves and their weights for each image and row. All parts together are one matrix product, about
twice as fast on a CPU as sums, which XLA would compute again for each of the four pixels that the
interpolation reads.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Part(NamedTuple):
    """One term of the source coordinates."""

    weights: jax.Array  # shape (2, batch, height, curves); row and column coordinates
    curves: np.ndarray  # shape (curves, width)


def affine(drawn: jax.Array, size: Sequence[int]) -> Part:
    """Source coordinates of an affine map for each image.

    `drawn` has shape (5, batch): angle, growth, shear, and the shifts down and right.
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
    """Smooth random displacements, with standard deviation `strength` along each axis."""
    rows, columns = (smooth_modes(length, sigma) for length in size)
    # In this layout, this too is one matrix product instead of one per image.
    noise = jax.random.normal(key, (rows.shape[1], 2 * batch * columns.shape[1]), dtype)
    weights = (jnp.asarray(strength * rows, dtype) @ noise).reshape(size[0], 2, batch, -1)
    return Part(jnp.moveaxis(weights, 0, 2), columns.T)


def sources(parts: Sequence[Part]) -> jax.Array:
    """The source row and column of each pixel: (2, batch, height, width)."""
    weights = jnp.concatenate([part.weights for part in parts], axis=-1)
    curves = jnp.asarray(np.concatenate([part.curves for part in parts]), weights.dtype)
    # A GPU's default precision would displace pixels by hundredths.
    return jnp.matmul(weights, curves, precision=jax.lax.Precision.HIGHEST)


@functools.cache
def smooth_modes(size: int, sigma: float) -> np.ndarray:
    """The matrix that turns white noise into noise smoothed by a Gaussian, with variance 1.

    Only the few degrees of freedom of smoothed noise are drawn: 9 along 28 pixels with sigma 4.
    """
    distance = np.subtract.outer(np.arange(size), np.arange(size))
    variances, modes = np.linalg.eigh(np.exp(-((distance / (2 * sigma)) ** 2)))
    kept = variances > 1e-4 * variances.max()
    return modes[:, kept] * np.sqrt(variances[kept])


def resample(images: jax.Array, places: jax.Array) -> jax.Array:
    """Each pixel's value at its source by bilinear interpolation; zero outside the image."""

    def one(image: jax.Array, place: jax.Array) -> jax.Array:
        return jax.scipy.ndimage.map_coordinates(image, list(place), order=1)

    every_channel = jax.vmap(one, in_axes=(-1, None), out_axes=-1)
    return jax.vmap(every_channel, in_axes=(0, 1))(images, places)
