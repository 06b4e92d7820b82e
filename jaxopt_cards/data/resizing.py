"""Images of another size, for networks that take one size only."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxopt_cards.core.checks import HyperparameterError, check_count
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.data.examples import Examples


@declare
def resize(examples: Examples, shape: Sequence[int]) -> Examples:
    r"""Resizes images to the size that a pretrained network takes.

    Pixels are interpolated linearly in both directions; where images become smaller, they are
    smoothed first. The range of the pixels stays. This is `jax.image.resize`.

    Equation:
        .. math:: x'_{ij} = \sum_{k, l} a_{ik}\, b_{jl}\, x_{kl}

        with :math:`x` an image, :math:`x'` the new image, :math:`i`, :math:`j`, :math:`k`,
        :math:`l` rows and columns of pixels, :math:`a` and :math:`b` weights of neighbours, which
        are not negative and sum to 1 over :math:`k` and :math:`l`.

    Args:
        examples: inputs of shape (n, pixels) for square images of one channel, (n, height, width)
            or (n, height, width, channels), and labels.
        shape: new height and width.

    Returns:
        `Examples` with as many dimensions as before, and the same labels.

    Raises:
        ValueError: a size that is not a positive integer, or inputs that are not images.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Reusing Pretrained Layers".

    Use when: a pretrained network expects another size than your images have.
    Avoid when: the lowest layers will be trained anyway; give them the width of your images.

    Example:
        >>> from jaxopt_cards import data
        >>> data.resize(data.digits().test, (28, 28)).x.shape
        (500, 784)
    """
    x, y = (np.asarray(part) for part in examples)
    size = tuple(shape) if isinstance(shape, Sequence) else (shape,)
    if len(size) != 2:
        raise HyperparameterError("shape", "be (height, width)", shape)
    for length in size:
        check_count("each of shape", length)
    side = round(x.shape[1] ** 0.5) if x.ndim == 2 else 0
    if x.ndim not in (2, 3, 4) or (x.ndim == 2 and side**2 != x.shape[1]):
        expected = "have x of shape (n, pixels) with square images, (n, height, width) or with "
        raise HyperparameterError("examples", f"{expected}channels", x.shape)
    if not np.issubdtype(x.dtype, np.floating):
        raise HyperparameterError("examples", "have x of floating point", x.dtype)
    images = x.reshape(len(x), side, side) if x.ndim == 2 else x
    new = jax.image.resize(images, (len(x), *size, *images.shape[3:]), "linear")
    return Examples(np.asarray(new).reshape(len(x), -1) if x.ndim == 2 else np.asarray(new), y)
