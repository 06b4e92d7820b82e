"""Subsets and small training sets, as the chapter makes them."""

import numpy as np
import pytest

from jaxopt_cards import data
from jaxopt_cards.data.examples import confusion_counts

EXAMPLES = data.Examples(np.arange(8.0)[:, None], np.array([5, 7, 5, 9, 7, 5, 9, 5]))


def test_subset_keeps_the_order_and_numbers_the_classes():
    some = data.subset(EXAMPLES, [5, 9])
    np.testing.assert_array_equal(some.x[:, 0], [0, 2, 3, 5, 6, 7])
    np.testing.assert_array_equal(some.y, [0, 0, 1, 0, 1, 0])
    assert some.y.dtype == np.int32


def test_per_class_takes_the_first_in_their_order():
    few = data.per_class(EXAMPLES, 2)
    np.testing.assert_array_equal(few.x[:, 0], [0, 1, 2, 3, 4, 6])


NOTHING = data.Examples(EXAMPLES.x[:0], EXAMPLES.y[:0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: data.subset(EXAMPLES, [5, 6]),
            r"subset: .*\[5, 6\]; \[6\] do not occur; .*\[5, 7, 9\]",
        ),
        (
            lambda: data.subset(EXAMPLES, [5, 5]),
            r"subset: classes must be one or more different .*\[5, 5\]; the",
        ),
        (lambda: data.subset(EXAMPLES, [5, 7.5]), r"; \[7\.5\] do not occur"),
        (lambda: data.subset(EXAMPLES, []), r"subset: .* one or more .* got \[\]; the labels"),
        (lambda: data.per_class(NOTHING, 1), r"per_class: each .* n = 1 .* got \{\}"),
        (lambda: data.per_class(EXAMPLES, 3), r"per_class: each .* n = 3 .*\{5: 4, 7: 2, 9: 2\}"),
        (lambda: data.per_class(EXAMPLES, 0), r"per_class: n must be a whole number >= 1, got 0"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_digits_are_complete_and_those_of_scikit_learn():
    splits = data.digits()
    assert sum(len(split.y) for split in splits) == 1797
    assert all(set(split.y.tolist()) == set(range(10)) for split in splits)
    assert splits.train.x.dtype == np.float32
    assert (splits.train.x.min(), splits.train.x.max()) == (0, 1)


def test_confusion_counts_also_labels_of_few_bits():
    labels, guesses = np.array([0, 17, 17], np.uint8), np.array([0, 17, 3])
    counts = confusion_counts(labels, guesses, 18)
    assert counts[0, 0] == counts[17, 17] == counts[17, 3] == 1
    assert counts.sum() == 3
