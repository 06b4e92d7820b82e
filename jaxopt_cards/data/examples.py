"""Examples with their labels, and functions that choose some of them."""

from collections.abc import Sequence
from typing import Annotated, NamedTuple

import numpy as np

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError


class Examples(NamedTuple):
    """Inputs and labels, row by row."""

    x: np.ndarray  # shape (examples, features), float32
    y: np.ndarray  # shape (examples,), int32, from 0


class Splits(NamedTuple):
    """Examples for training, validation and testing."""

    train: Examples
    valid: Examples
    test: Examples


@declare
def subset(examples: Examples, classes: Sequence[int]) -> Examples:
    r"""Keeps the examples of some classes, and numbers these classes from 0.

    The order of the examples is kept. The new labels are positions in `classes`: for digits 5 to 9,
    the label minus 5.

    Equation:
        .. math:: S = \{(x_i, j) : y_i = c_j\}

        with :math:`c` = `classes`.

    Args:
        examples: inputs and labels.
        classes: labels to keep, all different; the first becomes 0.

    Returns:
        The chosen `Examples`.

    Raises:
        ValueError: a class occurs twice in `classes`, or does not occur in the examples.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, exercises 8 and 9: digits 0 to 4, digits 5 to 9.

    Use when: a task uses only some classes of the data.
    Avoid when: labels should keep their values; index the arrays instead.

    Example:
        >>> import numpy as np
        >>> from jaxopt_cards import data
        >>> examples = data.Examples(np.eye(4, dtype="float32"), np.array([7, 5, 7, 0]))
        >>> data.subset(examples, [5, 7]).y
        array([1, 0, 1], dtype=int32)
    """
    classes = [int(label) if int(label) == label else label for label in classes]
    missing = sorted(set(classes) - set(examples.y.tolist()))
    if not classes or missing or len(set(classes)) != len(classes):
        why = f"; {missing} do not occur" if missing else ""
        raise NamedError(
            f"classes must be one or more different labels of the examples, got {classes}"
            f"{why}; the labels are {np.unique(examples.y).tolist()}",
        )
    kept = np.isin(examples.y, classes)
    position = {label: index for index, label in enumerate(classes)}
    y = np.array([position[label] for label in examples.y[kept].tolist()], np.int32)
    return Examples(examples.x[kept], y)


@declare
def per_class(examples: Examples, n: Annotated[int, "[1, inf)"]) -> Examples:
    r"""Keeps the first `n` examples of each class, in their order.

    This makes a small training set, as in the transfer exercises of Géron's chapter 11.

    Equation:
        .. math:: S = \{(x_i, y_i) : |\{j < i : y_j = y_i\}| < n\}

    Args:
        examples: inputs and labels.
        n: number of examples per class. Géron: 100 for training, 30 for validation.

    Returns:
        The chosen `Examples`.

    Raises:
        ValueError: a number is outside its range, or a class has fewer examples.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, exercise 9: 100 images per digit.

    Use when: studying how many labels are needed.
    Avoid when: class frequencies matter; sample with scikit-learn's splitters instead.

    Example:
        >>> import numpy as np
        >>> from jaxopt_cards import data
        >>> examples = data.Examples(np.arange(5.0)[:, None], np.array([0, 0, 1, 0, 1]))
        >>> data.per_class(examples, 1).x
        array([[0.],
               [2.]])
    """
    labels, counts = np.unique(examples.y, return_counts=True)
    if len(labels) == 0 or (counts < n).any():
        few = dict(zip(labels.tolist(), counts.tolist(), strict=True))
        raise NamedError(f"each class must have n = {n} examples or more, got {few}")
    firsts = [np.flatnonzero(examples.y == label)[:n] for label in labels]
    kept = np.sort(np.concatenate(firsts))
    return Examples(examples.x[kept], examples.y[kept])


def confusion_counts(labels: np.ndarray, guesses: np.ndarray, classes: int) -> np.ndarray:
    """The confusion matrix: a row for each label, a column for each prediction."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels, guesses), 1)
    return counts
