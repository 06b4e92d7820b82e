"""Augmentation against SciPy, and against what each setting promises.

Bilinear interpolation gives back a ramp exactly: an image whose channels hold each pixel's own row
and column says, after it was changed, where each pixel came from.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_cards import data
from jaxopt_cards.data import resampling as _resample

SIZE = (13, 16)
CENTRE = (np.array(SIZE) - 1) / 2
NOISE = np.random.default_rng(0).random((*SIZE, 3), np.float32)
RAMPS = np.moveaxis(np.indices(SIZE).astype(np.float32), 0, -1)
KEY = jax.random.key(3)
COLOURS = ("brightness", "contrast", "saturation", "hue")
GEOMETRY = {"shift": 1.5, "rotation": 30, "scale": 0.2, "shear": 0.2}


def copies(image, count):
    return np.broadcast_to(image, (count, *image.shape))


def matrices(ramps):
    """The affine matrix, (2, 3), by which the ramps of one image were changed.

    Fitted to the pixels that come from within the image, where the third channel is still one: the
    others are mixed with the zeros around it.
    """
    inside = ramps[..., 2] > 1 - 2e-6
    targets = np.insert(RAMPS, 2, 1, axis=-1)[inside]
    fit, residuals, rank, _ = np.linalg.lstsq(targets, ramps[..., :2][inside], rcond=None)
    assert rank == 3
    np.testing.assert_allclose(residuals, 0, atol=1e-6)  # a sum of squares
    return fit.T


def changed_ramps(count=16, **strengths):
    image = np.concatenate([RAMPS, np.ones((*SIZE, 1), np.float32)], axis=-1)
    change = data.augment(SIZE, **strengths)
    return np.asarray(change(KEY, copies(image, count)), np.float64)


def test_nothing_asked_for_changes_nothing():
    x = NOISE[None] * 9 - 4
    change = data.augment(SIZE)
    np.testing.assert_array_equal(change(KEY, x), x)


def uses(change, x, *operations):
    text = str(jax.make_jaxpr(change)(KEY, x))
    return any(operation in text for operation in operations)


def test_only_what_is_asked_for_is_in_the_program():
    x = NOISE[None]
    assert not uses(data.augment(SIZE, brightness=0.1), x, "gather", "dot_general", "erf_inv")
    assert not uses(data.augment(SIZE, rotation=5), x, "erf_inv")
    assert uses(data.augment(SIZE, elastic=1), x, "erf_inv")


@settings(max_examples=15, deadline=None)
@given(
    shift=st.floats(0, 2),
    rotation=st.floats(0, 40),
    scale=st.floats(0, 0.3),
    shear=st.floats(0, 0.3),
)
def test_one_matrix_an_image_within_the_ranges(shift, rotation, scale, shear):
    strengths = {"shift": shift, "rotation": rotation, "scale": scale, "shear": shear}
    for ramps in changed_ramps(4, **strengths):
        linear, offset = np.split(matrices(ramps), [2], axis=1)
        # M = R(angle) [[1, 0], [k, 1]] / s: its second column is R's alone.
        growth = 1 / np.sqrt(np.linalg.det(linear)) - 1
        angle = np.rad2deg(np.arctan2(-linear[0, 1], linear[1, 1]))
        slant = (linear[:, 0] @ linear[:, 1]) / (linear[:, 1] @ linear[:, 1])
        way = offset[:, 0] + linear @ CENTRE - CENTRE
        assert abs(growth) <= scale + 1e-4
        assert abs(angle) <= rotation + 1e-2
        assert abs(slant) <= shear + 1e-4
        assert np.abs(way).max() <= shift + 1e-3


def test_the_same_as_scipy_with_the_matrix_that_was_drawn():
    image = np.concatenate([RAMPS, np.ones((*SIZE, 1), np.float32), NOISE[..., :1]], axis=-1)
    changed = np.asarray(data.augment(SIZE, **GEOMETRY)(KEY, copies(image, 8)))
    for one in changed:
        matrix = matrices(one[..., :3].astype(np.float64))
        reference = scipy.ndimage.affine_transform(
            NOISE[..., 0], matrix[:, :2], matrix[:, 2], order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(one[..., 3], reference, atol=2e-4)


def test_resampling_is_that_of_scipy_also_far_outside():
    rng = np.random.default_rng(1)
    sources = rng.uniform(-5, 20, (2, 3, *SIZE)).astype(np.float32)
    images = rng.random((3, *SIZE, 2), np.float32)
    ours = _resample.resample(images, jnp.asarray(sources))
    for i, image in enumerate(images):
        for channel in range(2):
            reference = scipy.ndimage.map_coordinates(
                image[..., channel], sources[:, i], order=1, mode="grid-constant"
            )
            np.testing.assert_allclose(ours[i, ..., channel], reference, atol=2e-6)


@pytest.mark.parametrize("way", [(0, 0), (2, 0), (0, -3), (-4, 5), (13, 0)])
def test_whole_pixels_are_exact(way):
    drawn = jnp.array([0.0, 0.0, 0.0, *way])[:, None]
    places = _resample.sources([_resample.affine(drawn, SIZE)])
    moved = _resample.resample(NOISE[None], places)[0]
    expected = np.zeros_like(NOISE)
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            source = (row + way[0], column + way[1])
            if 0 <= source[0] < SIZE[0] and 0 <= source[1] < SIZE[1]:
                expected[row, column] = NOISE[source]
    np.testing.assert_array_equal(moved, expected)


def test_changes_are_even_around_none():
    drawn = np.array([matrices(ramps) for ramps in changed_ramps(400, shift=1.0, rotation=20)])
    angles = np.rad2deg(np.arctan2(drawn[:, 1, 0], drawn[:, 1, 1]))
    assert abs(angles.mean()) < 2  # three standard errors
    assert angles.std() == pytest.approx(20 / np.sqrt(3), rel=0.1)


def test_elastic_fields_have_the_strength_and_smoothness_asked_for():
    sigma = 2.0
    part = _resample.smooth(KEY, 1.0, sigma, 3000, SIZE, jnp.float32)
    fields = np.asarray(_resample.sources([part])).reshape(-1, *SIZE)
    np.testing.assert_allclose(fields.mean(0), 0, atol=0.06)
    np.testing.assert_allclose(fields.std(0), 1, atol=0.06)
    for lag in (1, 2, 4):
        expected = np.exp(-((lag / (2 * sigma)) ** 2))
        along_rows = np.mean(fields[:, lag:] * fields[:, :-lag])
        along_columns = np.mean(fields[:, :, lag:] * fields[:, :, :-lag])
        np.testing.assert_allclose([along_rows, along_columns], expected, atol=0.03)


def test_smooth_noise_is_gaussian_filtered_noise():
    """The covariance is the one of noise under SciPy's own filter, away from its edges."""
    modes, sigma = _resample.smooth_modes(28, 4.0), 4.0
    response = scipy.ndimage.gaussian_filter1d(np.eye(101)[50], sigma, truncate=8)
    covariance = np.convolve(response, response[::-1], mode="same")[50:78]
    np.testing.assert_allclose((modes @ modes.T)[0], covariance / covariance[0], atol=1e-3)
    assert modes.shape == (28, 9)


def test_elastic_moves_pixels_by_its_strength():
    ramps = changed_ramps(300, elastic=(0.5, 3.0))
    moved = (ramps[..., :2] - RAMPS)[:, 4:-4, 4:-4]  # eight standard deviations from the edge
    assert moved.std() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("flip", "versions"),
    [
        (True, {0: NOISE, 1: NOISE[:, ::-1]}),
        ("horizontal", {0: NOISE, 1: NOISE[:, ::-1]}),
        ("vertical", {0: NOISE, 1: NOISE[::-1]}),
        ("both", {0: NOISE, 1: NOISE[:, ::-1], 2: NOISE[::-1], 3: NOISE[::-1, ::-1]}),
    ],
)
def test_flips_are_exact_and_each_as_often(flip, versions):
    flipped = np.asarray(data.augment(SIZE, flip=flip)(KEY, copies(NOISE, 200)))
    counts = [sum(np.array_equal(one, version) for one in flipped) for version in versions.values()]
    assert sum(counts) == 200
    np.testing.assert_allclose(counts, 200 / len(versions), atol=25)


def test_a_flip_is_of_left_and_right_if_not_said_otherwise():
    assert data.augment(SIZE, flip=True) == data.augment(SIZE, flip="horizontal")
    assert data.augment(SIZE, flip=True) != data.augment(SIZE, flip="vertical")


def test_crops_are_every_window_of_the_padded_image():
    cropped = np.asarray(data.augment(SIZE, crop=1)(KEY, copies(NOISE, 150)))
    padded = np.pad(NOISE, ((1, 1), (1, 1), (0, 0)))
    windows = {
        padded[i : i + SIZE[0], j : j + SIZE[1]].tobytes() for i in range(3) for j in range(3)
    }
    assert {one.tobytes() for one in cropped} == windows


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_stay_within_their_strength_and_the_range(colour):
    strength = 0.3
    changed = np.asarray(data.augment(SIZE, **{colour: strength})(KEY, copies(NOISE, 50)))
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert len({one.tobytes() for one in changed}) == 50
    inside = (changed > 0) & (changed < 1)
    if colour == "brightness":
        amounts = (changed - NOISE)[inside]
        assert -strength <= amounts.min() < -0.2
        assert 0.2 < amounts.max() <= strength + 1e-6
    elif colour == "contrast":
        mean = NOISE.mean((0, 1))
        away = np.abs(NOISE - mean) > 0.1
        factors = ((changed - mean) / np.where(away, NOISE - mean, 1))[inside & away]
        assert 1 - strength - 1e-4 <= factors.min() < 0.8
        assert 1.2 < factors.max() <= 1 + strength + 1e-4
    else:  # both keep the value, which is the greatest of the three channels
        np.testing.assert_allclose(changed.max(-1), copies(NOISE.max(-1), 50), atol=1e-6)
    if colour == "hue":  # and the least
        np.testing.assert_allclose(changed.min(-1), copies(NOISE.min(-1), 50), atol=1e-6)


@pytest.mark.parametrize("asked", [GEOMETRY, {"elastic": 1.0}, {"flip": True}, {"crop": 2}])
def test_only_colour_clips(asked):
    x = copies(NOISE * 10 - 5, 3)
    changed = data.augment(SIZE, **asked)(KEY, x)
    assert changed.min() < -1
    assert changed.max() > 2


ALL = GEOMETRY | {"elastic": 1.0, "flip": True, "crop": 1, "brightness": 0.1, "contrast": 0.1}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize(
    ("image_shape", "shape"),
    [
        (SIZE, (5, 208)),
        (SIZE, (5, *SIZE)),
        (SIZE, (5, *SIZE, 1)),
        (SIZE, (5, *SIZE, 4)),
        ((*SIZE, 3), (5, 208 * 3)),
        ((*SIZE, 3), (5, *SIZE, 3)),
    ],
)
def test_shapes_and_dtypes_stay(image_shape, shape, dtype):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(np.random.default_rng(2).random(shape), dtype)
        changed = jax.eval_shape(data.augment(image_shape, **ALL), KEY, x)
    assert changed.shape == shape
    assert changed.dtype == x.dtype


def test_flat_square_and_channel_inputs_are_changed_alike():
    x = copies(NOISE[..., 0], 6)
    change = data.augment(SIZE, **ALL)
    square = change(KEY, x)
    np.testing.assert_array_equal(change(KEY, x.reshape(6, -1)), square.reshape(6, -1))
    np.testing.assert_array_equal(change(KEY, x[..., None]), square[..., None])


def test_each_image_and_each_key_has_numbers_of_its_own():
    x = copies(NOISE, 20)
    for name, strength in (GEOMETRY | {"elastic": 1.0}).items():
        change = jax.jit(data.augment(SIZE, **{name: strength}))
        first, again, other = (np.asarray(change(jax.random.key(seed), x)) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert len({one.tobytes() for one in (*first, *other)}) == 40, name


def test_another_setting_leaves_the_numbers_of_the_first():
    x = copies(NOISE, 4)
    turned = data.augment(SIZE, rotation=20)(KEY, x)
    also_darker = data.augment(SIZE, rotation=20, crop=1)(KEY, x)
    cut = data.augment(SIZE, crop=1)(KEY, turned)
    np.testing.assert_array_equal(also_darker, cut)


def test_jit_and_vmap_give_the_same():
    x = np.random.default_rng(4).random((3, 5, *SIZE)).astype(np.float32)
    keys = jax.random.split(KEY, 3)
    change = data.augment(SIZE, **ALL)
    expected = np.stack([change(key, one) for key, one in zip(keys, x, strict=True)])
    np.testing.assert_allclose(jax.jit(jax.vmap(change))(keys, x), expected, atol=1e-4)


def test_equal_settings_are_one_function_to_the_compiler():
    traced = []

    def counted(change, key, x):
        traced.append(change)
        return change(key, x)

    compiled = jax.jit(counted, static_argnums=0)
    one, same, other = (data.augment(SIZE, shift=way) for way in (1, 1.0, 2.0))
    for change in (one, same, other):
        compiled(change, KEY, NOISE[None])
    assert one == same != other
    assert hash(one) == hash(same)
    assert len(traced) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shift": -1}, r"augment: shift must lie in \[0, 1000\], got -1"),
        ({"rotation": 181}, r"augment: rotation must lie in \[0, 180\], got 181"),
        ({"scale": 1.0}, r"augment: scale must lie in \[0, 1\), got 1.0"),
        ({"shear": float("nan")}, r"augment: shear must lie in \[0, 10\], got nan"),
        ({"elastic": "strong"}, r"augment: elastic must be a number in \[0, 1000\], got 'strong'"),
        (
            {"elastic": (1.0, 0.0)},
            r"augment: the sigma of elastic must lie in \[0.5, 1000\], got 0.0",
        ),
        (
            {"elastic": (1, 2, 3)},
            r"augment: elastic must be a number or a pair \(strength, sigma\)",
        ),
        ({"elastic_sigma": 4.0}, r"augment: elastic_sigma must be given as elastic=\(strength,"),
        ({"brightness": 2}, r"augment: brightness must lie in \[0, 1\]"),
        ({"contrast": 2}, r"augment: contrast must lie in \[0, 1\]"),
        ({"saturation": 2}, r"augment: saturation must lie in \[0, 1\]"),
        ({"hue": 0.6}, r"augment: hue must lie in \[0, 0.5\]"),
        ({"flip": 0.5}, r"augment: flip must be True, False, .*'vertical' or 'both', got 0.5"),
        ({"flip": "up"}, r"augment: flip must be True, False, .*'vertical' or 'both', got 'up'"),
        ({"crop": 1.5}, r"augment: crop must be a whole number >= 0, got 1.5"),
        ({"crop": 13}, r"augment: crop must be below height and width of \(13, 16\), got 13"),
        ({"image_shape": 784}, r"augment: image_shape must be \(height, width\) or .*, got 784"),
        ({"image_shape": (784,)}, r"augment: image_shape must be \(height, width\) or"),
        ({"image_shape": (28, 0)}, r"augment: each of image_shape must be a whole number >= 1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        data.augment(**{"image_shape": SIZE, **arguments})


@pytest.mark.parametrize(
    ("x", "arguments", "message"),
    [
        (NOISE[None, :5], {}, r"augment: x must have shape \(batch, 208\) or \(batch, 13, 16\)"),
        (NOISE, {"image_shape": (*SIZE, 3)}, r"or \(batch, 13, 16, 3\), got \(13, 16, 3\)"),
        (NOISE[None] > 0.5, {}, r"augment: x must be floating-point, got 'bool'"),
        (NOISE[None, ..., 0], {"hue": 0.1}, r"augment: x must have 3 channels for .*\(1, 13, 16\)"),
        (NOISE[None, ..., :2], {"saturation": 0.1}, r"augment: x must have 3 channels"),
    ],
)
def test_bad_images(x, arguments, message):
    change = data.augment(**{"image_shape": SIZE, **arguments})
    with pytest.raises(ValueError, match=message):
        change(KEY, x)


@pytest.mark.parametrize("asked", [{"flip": True}, {"crop": 1}, {"contrast": 0.1}])
def test_without_dm_pix_the_error_says_what_to_install(monkeypatch, asked):
    monkeypatch.setitem(__import__("sys").modules, "dm_pix", None)
    data.augment(SIZE, **GEOMETRY)(KEY, NOISE[None])  # needs it not
    with pytest.raises(ModuleNotFoundError, match=r"augment: .* dm-pix: pip install 'jaxopt_car"):
        data.augment(SIZE, **asked)
