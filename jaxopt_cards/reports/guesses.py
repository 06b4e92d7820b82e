"""Predictions of a trained model for test examples."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxopt_cards.data.examples import confusion_counts
from jaxopt_cards.reports.inputs import Rows
from jaxopt_cards.training.evaluation import evaluate
from jaxopt_cards.training.inputs import check_model_fits, default_loss, on_device
from jaxopt_cards.training.prediction import predict

# Smaller squares, such as the nine columns of a table, are not taken for images.
_LEAST_SIDE = 8


class Guesses(NamedTuple):
    """The predictions of one model."""

    labels: np.ndarray  # (n,)
    guesses: np.ndarray  # (n,)
    excess: np.ndarray  # (n,); the guess's logit minus that of the label
    images: np.ndarray | None  # (n, height, width); `None` if the inputs are not images


def accuracies(rows: Rows, test: Sequence[Any]) -> dict[str, list[float]]:
    """The accuracy of each run of each row, in percent."""
    examples = on_device("test", test)
    for results in rows.values():
        check_model_fits("test", results[0].model, default_loss, examples)
    return {
        name: [100 * evaluate(result.model, *test)["accuracy"] for result in results]
        for name, results in rows.items()
    }


def guesses(model: nnx.Module, test: Sequence[Any]) -> Guesses:
    """Evaluates the model on all examples."""
    x, labels = (np.asarray(part) for part in test)
    outputs = predict(model, x)
    took, rows = outputs.argmax(axis=1), np.arange(len(outputs))
    return Guesses(labels, took, outputs[rows, took] - outputs[rows, labels], images(x))


def images(x: np.ndarray) -> np.ndarray | None:
    """The inputs as grey images, if they have such a shape."""
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.ndim == 2 and (side := round(x.shape[1] ** 0.5)) ** 2 == x.shape[1]:
        x = x.reshape(-1, side, side)
    return x if x.ndim == 3 and min(x.shape[1:]) >= _LEAST_SIDE else None


def counts(found: Guesses) -> list[dict[str, Any]]:
    """The confusion matrix as rows of a table."""
    classes = int(max(found.labels.max(), found.guesses.max())) + 1
    matrix = confusion_counts(found.labels, found.guesses, classes)
    return [
        {"class": str(label), **{str(guess): int(n) for guess, n in enumerate(row)}}
        for label, row in enumerate(matrix)
    ]
