"""Augmentation: random changes of the images of each batch, inside the compiled program."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_cards.core.checks import HyperparameterError, check_count, check_number
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import named_as
from jaxopt_cards.core.optional import optional
from jaxopt_cards.data.resampling import affine, resample, smooth, sources

# Changes of colour, each with the amount that changes nothing; amounts are drawn around it.
_COLOURS = {"brightness": 0.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}


@declare(refused={"elastic_sigma": "be given as elastic=(strength, sigma)"})
def augment(
    image_shape: Sequence[int] = (28, 28),
    *,
    shift: Annotated[float, "[0, 1000]"] = 0.0,
    rotation: Annotated[float, "[0, 180]"] = 0.0,
    scale: Annotated[float, "[0, 1)"] = 0.0,
    shear: Annotated[float, "[0, 10]"] = 0.0,
    elastic: float | tuple[float, float] = 0.0,
    flip: bool | Literal["horizontal", "vertical", "both"] = False,
    crop: Annotated[int, "[0, inf)"] = 0,
    brightness: Annotated[float, "[0, 1]"] = 0.0,
    contrast: Annotated[float, "[0, 1]"] = 0.0,
    saturation: Annotated[float, "[0, 1]"] = 0.0,
    hue: Annotated[float, "[0, 0.5]"] = 0.0,
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    r"""Makes a function that changes each image of a batch at random, in ways that keep its label.

    The amounts are drawn for each image, uniformly between minus and plus the strength. Shift,
    rotation, scale, shear and elastic deformation are one bilinear resampling, with zeros outside
    the image. Flip, crop and colour follow, and use dm-pix. Changes that are not requested are not
    in the program; without any, the images are returned unchanged.

    Equation:
        .. math::
            x'(p) &= x\bigl(c + t + M (p - c) + \epsilon\, d(p)\bigr), \qquad
                M = \frac{1}{s} \begin{pmatrix} \cos\theta & -\sin\theta \\
                    \sin\theta & \cos\theta \end{pmatrix}
                \begin{pmatrix} 1 & 0 \\ k & 1 \end{pmatrix} \\
            d_i &\sim \mathcal{N}, \qquad
                \mathrm{E}[d_i(p)\, d_i(q)] = e^{-\lVert p - q \rVert^2 / 4 \sigma^2}

        with :math:`p` = (row, column), :math:`c` the centre, :math:`|t_i| \le` `shift`,
        :math:`|\theta| \le` `rotation`, :math:`|s - 1| \le` `scale`, :math:`|k| \le` `shear`,
        (:math:`\epsilon`, :math:`\sigma`) = `elastic`.

    Args:
        image_shape: (height, width) or (height, width, channels), positive integers.
        shift: pixels up, down, left or right.
        rotation: degrees, in both directions.
        scale: fraction by which the image grows or shrinks.
        shear: columns by which each row is shifted against the next.
        elastic: float in [0, 1000], the standard deviation, in pixels, of each pixel's displacement
            along each axis; or a pair of it and of sigma, float in [0.5, 1000], the width in pixels
            of the Gaussian that smooths the displacements, 4 by default as in Simard. Simard's
            :math:`\alpha` = 34 is a displacement of 1.4 at this sigma.
        flip: "horizontal", or True, to mirror left and right with probability 1/2; "vertical", to
            mirror top and bottom with probability 1/2; "both", for both, independently.
        crop: pixels of zero padding, less than height and width, after which a window of the old
            size is cut out at random.
        brightness: amount added.
        contrast: fraction by which the distance from the mean changes.
        saturation: fraction by which the saturation changes.
        hue: fraction of the colour circle.

    Returns:
        A pure function `(key, x) -> x` for floating-point `x` of shape (batch, height · width),
        (batch, height, width) or (batch, height, width, channels). It keeps shape and dtype.
        Values are clipped to [0, 1] only if colour is changed. Functions with the same settings
        are equal and have equal hashes, so they share compiled programs.

    Raises:
        ValueError: a number is outside its range; `x` has another shape or is not floating-point;
            saturation or hue is requested, but there are not three channels.
        ModuleNotFoundError: flip, crop or colour is requested, but dm-pix is not installed.

    References:
        Patrice Simard, Dave Steinkraus, John Platt (2003), Best Practices for Convolutional Neural
        Networks Applied to Visual Document Analysis. Géron (2017), chapter 11, "Data
        Augmentation".

    Use when: labels are few, and you know which changes do not alter them.
    Avoid when: a change would alter the label, as flipping a digit does.

    Example:
        >>> import jax
        >>> from jaxopt_cards import data
        >>> change = data.augment((8, 8), shift=1, rotation=10, elastic=0.5)
        >>> change == data.augment((8, 8), shift=1.0, rotation=10.0, elastic=0.5)
        True
        >>> x = data.digits().train.x[:20]
        >>> x.shape, change(jax.random.key(0), x).shape
        ((20, 64), (20, 64))
    """
    shape = _checked_shape(image_shape)
    if crop >= min(shape[:2]):
        raise HyperparameterError("crop", f"be below height and width of {shape}", crop)
    change = _Augmentation(
        shape,
        *(float(shift), float(rotation), float(scale), float(shear)),
        *_elastic(elastic),
        *(float(brightness), float(contrast), float(saturation), float(hue)),
        flip=_flips(flip),
        crop=int(crop),
    )
    if change.flip or change.crop or change.colours:
        optional("dm_pix")  # raises now, not in the middle of training, if it is missing
    return change


@dataclasses.dataclass(frozen=True)
class _Augmentation:
    """The function that `augment` returns; a class, so that equal settings are equal functions."""

    image_shape: tuple[int, ...]
    shift: float
    rotation: float
    scale: float
    shear: float
    elastic: float
    elastic_sigma: float
    brightness: float
    contrast: float
    saturation: float
    hue: float
    flip: str  # empty for none
    crop: int

    @property
    def colours(self) -> list[str]:
        """The requested changes of colour."""
        return [name for name in _COLOURS if getattr(self, name)]

    @named_as("augment")
    def __call__(self, key: jax.Array, x: jax.Array) -> jax.Array:
        """Changes each image of the batch at random."""
        given = jnp.asarray(x)
        images = self._as_images(given)
        way, bend, mirror, cut, colour = jax.random.split(key, 5)
        if self.shift or self.rotation or self.scale or self.shear or self.elastic:
            images = self._moved(way, bend, images)
        if self.flip in ("horizontal", "both"):
            keys = jax.random.split(mirror, len(images))
            images = jax.vmap(optional("dm_pix").random_flip_left_right)(keys, images)
        if self.flip in ("vertical", "both"):
            keys = jax.random.split(jax.random.fold_in(mirror, 1), len(images))
            images = jax.vmap(optional("dm_pix").random_flip_up_down)(keys, images)
        if self.crop:
            images = self._cropped(cut, images)
        if self.colours:
            images = self._coloured(colour, images)
        return images.reshape(given.shape).astype(given.dtype)

    def _as_images(self, x: jax.Array) -> jax.Array:
        """The batch as (batch, height, width, channels), in float32 at least."""
        height, width, *channels = self.image_shape
        shapes = [(height * width * (channels or [1])[0],), (height, width, *channels)]
        if x.shape[1:] not in shapes and (channels or x.ndim != 4 or x.shape[1:3] != shapes[1]):
            expected = " or ".join(str(("batch", *shape)) for shape in shapes).replace("'", "")
            raise HyperparameterError("x", f"have shape {expected}", x.shape)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise HyperparameterError("x", "be floating-point", x.dtype.name)
        count = x.shape[-1] if x.ndim == 4 else (channels or [1])[0]
        if (self.saturation or self.hue) and count != 3:
            raise HyperparameterError("x", "have 3 channels for colour", x.shape)
        images = x.reshape(len(x), height, width, count)
        return images.astype(x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.float32)

    def _moved(self, way: jax.Array, bend: jax.Array, images: jax.Array) -> jax.Array:
        """Applies all geometric changes in one resampling."""
        batch, *size, _ = images.shape
        strengths = [np.deg2rad(self.rotation), self.scale, self.shear, self.shift, self.shift]
        drawn = jax.random.uniform(way, (5, batch), images.dtype, -1.0, 1.0)
        parts = [affine(drawn * jnp.array(strengths, images.dtype)[:, None], size)]
        if self.elastic:
            sigma = self.elastic_sigma
            parts.append(smooth(bend, self.elastic, sigma, batch, size, images.dtype))
        return resample(images, sources(parts))

    def _cropped(self, key: jax.Array, images: jax.Array) -> jax.Array:
        sides = (self.crop, self.crop)
        padded = jnp.pad(images, ((0, 0), sides, sides, (0, 0)))
        cut = functools.partial(optional("dm_pix").random_crop, crop_sizes=images.shape[1:])
        return jax.vmap(cut)(jax.random.split(key, len(images)), padded)

    def _coloured(self, key: jax.Array, images: jax.Array) -> jax.Array:
        for name, one_key in zip(_COLOURS, jax.random.split(key, len(_COLOURS)), strict=True):
            if strength := getattr(self, name):
                low, high = _COLOURS[name] - strength, _COLOURS[name] + strength
                amounts = jax.random.uniform(one_key, (len(images),), images.dtype, low, high)
                # dm-pix adds booleans to numbers, which strict dtype promotion forbids.
                with jax.numpy_dtype_promotion("standard"):
                    images = jax.vmap(getattr(optional("dm_pix"), f"adjust_{name}"))(
                        images, amounts
                    )
        return jnp.clip(images, 0.0, 1.0)


def _flips(flip: Any) -> str:
    """The directions in which to flip; True is "horizontal"."""
    if isinstance(flip, bool | np.bool):
        return "horizontal" if flip else ""
    if not isinstance(flip, str) or flip not in ("horizontal", "vertical", "both"):
        expected = "be True, False, 'horizontal', 'vertical' or 'both'"
        raise HyperparameterError("flip", expected, flip)
    return flip


def _elastic(elastic: Any) -> tuple[float, float]:
    """Displacement and sigma of elastic deformation."""
    pair = elastic if isinstance(elastic, tuple | list) else (elastic, 4.0)
    if len(pair) != 2:
        raise HyperparameterError("elastic", "be a number or a pair (strength, sigma)", elastic)
    check_number("elastic", pair[0], "[0, 1000]")
    check_number("the sigma of elastic", pair[1], "[0.5, 1000]")
    return float(pair[0]), float(pair[1])


def _checked_shape(image_shape: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(image_shape, Sequence) or len(image_shape) not in (2, 3):
        expected = "be (height, width) or (height, width, channels)"
        raise HyperparameterError("image_shape", expected, image_shape)
    for size in image_shape:
        check_count("each of image_shape", size)
    return tuple(int(size) for size in image_shape)
