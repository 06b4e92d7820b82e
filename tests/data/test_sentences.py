"""Sentences with a word replaced."""

import numpy as np
import pytest

from jaxopt_cards import data

RANDOM = np.random.default_rng(0)
SENTENCES = RANDOM.integers(0, 7, (4000, 5))


def test_the_good_come_first_as_they_were():
    task = data.corrupted_tokens(SENTENCES, 7)
    np.testing.assert_array_equal(task.x[:4000], SENTENCES)
    np.testing.assert_array_equal(task.y, [1] * 4000 + [0] * 4000)
    assert (task.x.dtype, task.y.dtype) == (np.int32, np.int32)


def test_one_token_is_another_at_any_place_and_any_other():
    task = data.corrupted_tokens(SENTENCES, 7)
    changed = task.x[:4000] != task.x[4000:]
    np.testing.assert_array_equal(changed.sum(axis=1), 1)
    np.testing.assert_allclose(changed.mean(axis=0), 1 / 5, atol=0.03)
    steps = (task.x[4000:] - task.x[:4000])[changed] % 7
    counts = np.bincount(steps, minlength=7) / 4000
    np.testing.assert_allclose(counts, [0, *[1 / 6] * 6], atol=0.03)


@pytest.mark.parametrize("padding", [0, 3, 6])
def test_padding_is_neither_replaced_nor_put_in(padding):
    short = np.where(np.arange(5) < 2, SENTENCES, padding)
    short = np.where((short == padding) & (np.arange(5) < 2), (padding + 1) % 7, short)
    bad = data.corrupted_tokens(short, 7, padding=padding).x[4000:]
    np.testing.assert_array_equal((bad != short).sum(axis=1), 1)
    assert (bad[:, 2:] == padding).all()
    assert (bad[:, :2] != padding).all()
    assert set(bad[:, :2].ravel()) == set(range(7)) - {padding}


def test_the_seed_decides():
    first, same, other = (data.corrupted_tokens(SENTENCES, 7, seed=s).x for s in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[0.5, 1.0]], 3), r"x must be integers of shape \(n, length\), got .*float"),
        (([0, 1], 3), r"x must be integers of shape \(n, length\), got \(\(2,\)"),
        (([[]], 3), r"x must be integers of shape \(n, length\)"),
        (([[0, 3]], 3), r"x must have tokens from 0 to 2, got \(0, 3\)"),
        (([[-1, 1]], 3), r"x must have tokens from 0 to 2, got \(-1, 1\)"),
        (([[0, 0]], 1), r"vocabulary must be a whole number >= 2, got 1"),
        (([[0, 1]], 2, {"padding": 0}), r"vocabulary must have two tokens beside the padding"),
        (([[1, 0], [0, 0]], 3, {"padding": 0}), r"a token beside the padding .*, got 1"),
        (([[1, 0]], 3, {"padding": -1}), r"padding must be a whole number >= 0, got -1"),
        (([[1, 0]], 3, {"seed": -1}), r"seed must"),
    ],
)
def test_bad_arguments(arguments, message):
    x, vocabulary, *more = arguments
    with pytest.raises(ValueError, match=f"corrupted_tokens: .*{message}"):
        data.corrupted_tokens(x, vocabulary, **(more[0] if more else {}))
