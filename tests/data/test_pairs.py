"""Auxiliary tasks from data alone: pairs of the same class or of two, and corrupted images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_cards import data

CLASSES = np.array([3, 8, 8, 3, 5, 5, 8, 5, 5, 8])
NUMBERED = data.Examples(np.arange(10, dtype=np.float32)[:, None], CLASSES)


# Few lengths, since each is compiled.
@settings(deadline=None, max_examples=30)
@given(n=st.sampled_from([2, 3, 40, 101]), seed=st.integers(0, 2**31))
def test_pairs_are_what_their_label_says_and_half_of_each(n, seed):
    drawn = data.pairs(NUMBERED, n, seed=seed)
    first, second = drawn.x[..., 0].astype(int).T
    np.testing.assert_array_equal(drawn.y, CLASSES[first] != CLASSES[second])
    assert np.all(first != second)
    assert drawn.y.sum() == n - n // 2
    assert (drawn.x.dtype, drawn.y.dtype) == (np.float32, np.int32)


def test_every_pair_is_drawn_about_as_often_as_it_should_be():
    n = 200_000
    drawn = data.pairs(NUMBERED, n)
    rows = drawn.x[..., 0].astype(int)
    together = np.histogram2d(*rows.T, bins=[np.arange(11)] * 2)[0] / n
    of_one_class = CLASSES[:, None] == CLASSES
    np.fill_diagonal(expected_same := of_one_class / 1.0, 0)
    expected = sum(
        0.5 * 0.1 * kind / kind.sum(axis=1, keepdims=True)
        for kind in (expected_same, ~of_one_class)
    )
    np.testing.assert_allclose(together, expected, atol=6 * np.sqrt(expected.max() / n))


def test_both_kinds_are_mixed():
    halves = data.pairs(NUMBERED, 1000).y.reshape(2, 500).mean(axis=1)
    np.testing.assert_allclose(halves, 0.5, atol=0.1)


@pytest.fixture(scope="module")
def digits():
    return data.per_class(data.digits().train, 20)


def make(digits, **more):
    return data.corrupted(digits, **({"image_shape": (8, 8), "sigma": 1.0} | more))


def test_the_good_come_first_as_they_were(digits):
    task = make(digits)
    np.testing.assert_array_equal(task.x[:200], digits.x)
    np.testing.assert_array_equal(task.y, [1] * 200 + [0] * 200)
    assert (task.x.dtype, task.y.dtype) == (np.float32, np.int32)


def test_half_of_a_bad_image_is_another_image():
    # Pixels that say which image they are of, so that the patches can be read off.
    x = np.broadcast_to(np.arange(50, dtype=np.float32)[:, None], (50, 64))
    bad = make(data.Examples(x, np.zeros(50, int))).x[50:]
    for number, image in enumerate(bad):
        values, counts = np.unique(image, return_counts=True)
        assert number in values
        np.testing.assert_array_equal(counts, [32, 32])


def test_patches_are_larger_the_smoother_the_noise():
    x = np.broadcast_to(np.arange(200, dtype=np.float32)[:, None], (200, 784))

    def edges(sigma):
        bad = data.corrupted(data.Examples(x, np.zeros(200, int)), sigma=sigma).x[200:]
        images = bad.reshape(-1, 28, 28)
        across = np.diff(images, axis=2) != 0
        down = np.diff(images, axis=1) != 0
        np.testing.assert_allclose(across.mean(), down.mean(), rtol=0.1)
        return across.mean()

    # Two neighbours, Gaussian of correlation exp(-1/4 sigma²), lie on different sides of zero with
    # probability arccos(correlation)/π.
    for sigma in (1.0, 3.0):
        expected = np.arccos(np.exp(-1 / (4 * sigma**2))) / np.pi
        np.testing.assert_allclose(edges(sigma), expected, rtol=0.15)


@pytest.mark.parametrize(
    "draw",
    [lambda examples, seed: data.pairs(examples, 100, seed=seed), make],
    ids=["pairs", "bad"],
)
def test_the_seed_says_all(digits, draw):
    one, same, other = (draw(digits, seed=seed).x for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.any(one != other)


ONE_CLASS = data.Examples(NUMBERED.x, np.zeros(10, int))
LONELY = data.Examples(NUMBERED.x, np.array([1, *[0] * 9]))
UNEQUAL = data.Examples(NUMBERED.x, CLASSES[:9])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.pairs(NUMBERED, 1), r"pairs: n must be a whole number >= 2, got 1"),
        (lambda: data.pairs(NUMBERED, 2, seed=-1), r"pairs: seed must be a whole number >= 0"),
        (
            lambda: data.pairs(ONE_CLASS, 2),
            r"pairs: examples must have two or more classes .*\{0: 10\}",
        ),
        (lambda: data.pairs(LONELY, 2), r"with two or more examples each, got \{0: 9, 1: 1\}"),
        (lambda: data.pairs(UNEQUAL, 2), r"pairs: examples must have x of shape .*\(9,\)"),
        (lambda: data.corrupted(UNEQUAL), r"corrupted: examples must have x of shape .*\(9,\)"),
        (
            lambda: data.corrupted(NUMBERED),
            r"corrupted: examples must have x of shape \(n >= 2, 784\), got \(10, 1\)",
        ),
        (
            lambda: data.corrupted(data.Examples(NUMBERED.x[:1], CLASSES[:1]), image_shape=(1, 1)),
            r"corrupted: examples must have x of shape \(n >= 2, 1\), got \(1, 1\)",
        ),
        (
            lambda: data.corrupted(NUMBERED, image_shape=(8, 8, 1)),
            r"corrupted: image_shape must be \(height, width\), got \(8, 8, 1\)",
        ),
        (
            lambda: data.corrupted(NUMBERED, image_shape=(0, 8)),
            r"corrupted: each of image_shape must be a whole number >= 1, got 0",
        ),
        (lambda: data.corrupted(NUMBERED, sigma=0), r"corrupted: sigma must lie in \[0.5, 1000\]"),
        (lambda: data.corrupted(NUMBERED, seed=0.5), r"corrupted: seed must be a whole number"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
