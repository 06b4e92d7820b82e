"""Checks of the arguments of pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_cards.core.checks import HyperparameterError


def named(argument: str, things: Any) -> None:
    """Raises unless `things` is a mapping with at least one name."""
    if not isinstance(things, Mapping) or not things:
        expected = "be a mapping with at least one name"
        raise HyperparameterError(argument, expected, things)


def named_numbers(argument: str, things: Any, shape: str) -> dict[str, np.ndarray]:
    """The arrays by name, each as `numbers` returns it."""
    named(argument, things)
    return {name: numbers(f"{argument}[{name!r}]", it, shape) for name, it in things.items()}


def numbers(argument: str, values: Any, shape: str) -> np.ndarray:
    """The values as float64; raises unless they are real numbers of that shape.

    `shape` is written as in the documentation, such as "(steps, 2)": axes with a name may have any
    length above 0.
    """
    array = np.asarray(values)
    wanted = [axis.strip() for axis in shape.strip("()").split(",") if axis.strip()]
    fits = array.ndim == len(wanted) and array.size > 0
    fits = fits and all(
        not axis.isdigit() or int(axis) == length
        for axis, length in zip(wanted, array.shape, strict=True)
    )
    if not fits or not (array.dtype.kind in "iufb" or array.dtype.name == "bfloat16"):
        got = f"{array.dtype} of shape {array.shape}"
        raise HyperparameterError(argument, f"be numbers of shape {shape}", got)
    return array.astype(np.float64)


def classes_of(
    labels: Any, guesses: Any, classes: Sequence[str] | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Labels and guesses as whole numbers, and the names of the classes."""
    labels, guesses = np.asarray(labels), np.asarray(guesses)
    for argument, array in (("labels", labels), ("guesses", guesses)):
        if array.ndim != 1 or array.dtype.kind not in "iu" or not array.size or array.min() < 0:
            expected = "be whole numbers >= 0 of shape (examples,)"
            raise HyperparameterError(argument, expected, array)
    if len(labels) != len(guesses):
        raise HyperparameterError("guesses", f"have {len(labels)} elements", len(guesses))
    count = int(max(labels.max(), guesses.max())) + 1
    names = [str(index) for index in range(count)] if classes is None else list(map(str, classes))
    if len(names) < count:
        raise HyperparameterError("classes", f"name at least {count} classes", names)
    return labels, guesses, names


def square_images(argument: str, images: Any) -> np.ndarray:
    """Images of shape (images, height, width); flattened images are taken as squares."""
    array = np.asarray(images)
    if array.ndim == 2 and (side := round(array.shape[1] ** 0.5)) ** 2 == array.shape[1]:
        array = array.reshape(-1, side, side)
    if array.ndim != 3 or not array.size:
        expected = "have shape (images, height, width), or (images, pixels) of square images"
        raise HyperparameterError(argument, expected, f"shape {array.shape}")
    return numbers(argument, array, "(images, height, width)")
