"""What a trained model makes of examples that it has not seen."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxopt_cards.data.examples import confusion_counts
from jaxopt_cards.reports.inputs import Rows
from jaxopt_cards.training.evaluation import evaluate
from jaxopt_cards.training.inputs import check_model_fits, default_loss, on_device
from jaxopt_cards.training.prediction import predict

# A square of fewer numbers, such as the nine columns of a table, is no image.
_LEAST_SIDE = 8


class Guesses(NamedTuple):
    """What one model takes the examples for."""

    labels: np.ndarray  # (n,)
    guesses: np.ndarray  # (n,)
    excess: np.ndarray  # (n,); by how much the guess's logit is above the right one's
    images: np.ndarray | None  # (n, height, width); `None` if the inputs are no images


def accuracies(rows: Rows, test: Sequence[Any]) -> dict[str, list[float]]:
    """For each row the accuracy of each run, in percent."""
    examples = on_device("report", "test", test)
    for results in rows.values():
        check_model_fits("test", results[0].model, default_loss, examples)
    return {
        name: [100 * evaluate(result.model, *test)["accuracy"] for result in results]
        for name, results in rows.items()
    }


def guesses(model: nnx.Module, test: Sequence[Any]) -> Guesses:
    """Runs the model over all examples."""
    x, labels = (np.asarray(part) for part in test)
    outputs = predict(model, x)
    took, rows = outputs.argmax(axis=1), np.arange(len(outputs))
    return Guesses(labels, took, outputs[rows, took] - outputs[rows, labels], images(x))


def images(x: np.ndarray) -> np.ndarray | None:
    """The inputs as grey images, if that is their shape."""
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
