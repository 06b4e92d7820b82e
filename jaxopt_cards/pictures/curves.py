"""Curves by epoch, by step and by layer."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.schedule_values import values_of
from jaxopt_cards.pictures.inputs import named, named_numbers, numbers
from jaxopt_cards.pictures.theme import colour, is_dark, line, marker, over, plain
from jaxopt_cards.training.outcome import History

_QUANTITIES = {
    "train_loss": "training loss",
    "valid_loss": "validation loss",
    "valid_accuracy": "validation accuracy, %",
}


@declare
def learning_curves(
    ax: Axes, runs: Mapping[str, Sequence[History]], quantity: str = "valid_accuracy"
) -> Axes:
    """Draws a quantity by epoch: the mean over seeds as a line, their range as a band.

    Evaluations by steps lie between the epochs. After the first run has ended, the others are drawn
    as thin single lines, since a mean over fewer runs would jump. Losses have a logarithmic axis.

    Args:
        ax: the axes to draw into.
        runs: the histories of the runs by name, one per seed.
        quantity: "valid_accuracy", "valid_loss" or "train_loss".

    Raises:
        ValueError: the quantity is unknown, or `runs` are not histories by name.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures, training
        >>> accuracy = np.array([0.5, 0.75, 0.875])
        >>> history = training.History(1 - accuracy, 1 - accuracy, accuracy, np.ones(3))
        >>> ax = pictures.learning_curves(Figure().subplots(), {"adam": [history]})
        >>> ax.lines[0].get_ydata()
        array([50. , 75. , 87.5])
    """
    if quantity not in _QUANTITIES:
        expected = f"be one of {list(_QUANTITIES)}"
        raise HyperparameterError("quantity", expected, quantity)
    named("runs", runs)
    for index, (name, histories) in enumerate(runs.items()):
        curves = _curves_of(name, histories, quantity)
        common = min(map(len, curves))
        longest = max(histories, key=lambda history: len(getattr(history, quantity)))
        known = getattr(longest, "epoch", np.zeros(0))
        epochs = known if np.size(known) else np.arange(1, max(map(len, curves)) + 1)
        look = line(ax, index)
        together = np.stack([curve[:common] for curve in curves])
        ax.plot(epochs[:common], together.mean(axis=0), label=plain(name), **look)
        if len(curves) > 1:
            low, high = together.min(axis=0), together.max(axis=0)
            band = {"color": look["color"], "alpha": 0.2, "linewidth": 0}
            ax.fill_between(epochs[:common], low, high, **band)
        for curve in curves:
            if len(curve) > common:
                rest = slice(common - 1, len(curve))
                ax.plot(epochs[rest], curve[rest], **look | {"linewidth": 0.7, "alpha": 0.7})
    if quantity != "valid_accuracy":
        ax.set_yscale("log")
    return over(ax, "epoch", _QUANTITIES[quantity], len(runs))


def _curves_of(name: str, histories: Sequence[History], quantity: str) -> list[np.ndarray]:
    """One array per run. A single history is a tuple too, but not a sequence of histories."""
    is_sequence = isinstance(histories, Sequence) and not hasattr(histories, quantity)
    if not is_sequence or not histories or not all(hasattr(h, quantity) for h in histories):
        expected = "be a sequence of histories, one per run"
        raise HyperparameterError(f"runs[{name!r}]", expected, histories)
    scale = 100.0 if quantity == "valid_accuracy" else 1.0
    argument = f"runs[{name!r}].{quantity}"
    return [scale * numbers(argument, getattr(each, quantity), "(epochs,)") for each in histories]


@declare
def schedules(
    ax: Axes,
    curves: Mapping[str, Callable[[Any], Any]],
    steps: Annotated[int, "[1, inf)"],
    label: str = "learning rate",
) -> Axes:
    """Draws the value of each schedule at each step.

    Args:
        ax: the axes to draw into.
        curves: schedules by name; a schedule is a function from the step to a value.
        steps: the number of steps to draw, from 0.
        label: the label of the values.

    Raises:
        ValueError: `curves` are not functions by name, or a number is outside its range.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> from jaxopt_cards.schedules import linear_schedule
        >>> curves = {"linear": linear_schedule(1.0, 0.0, 4)}
        >>> pictures.schedules(Figure().subplots(), curves, steps=5).lines[0].get_ydata()
        array([1.  , 0.75, 0.5 , 0.25, 0.  ])
    """
    named("curves", curves)
    for index, (name, schedule) in enumerate(curves.items()):
        if not callable(schedule):
            raise HyperparameterError(f"curves[{name!r}]", "be a function", schedule)
        ax.plot(values_of(schedule, np.arange(steps)), label=plain(name), **line(ax, index))
    return over(ax, "step", label, len(curves))


@declare
def gradient_norms(
    ax: Axes, norms: Mapping[str, Any], steps: Any = None, label: str = "norm of the gradient"
) -> Axes:
    """Draws the norm of each layer's gradient by step, on a logarithmic axis.

    The colours follow the order of the layers.

    Args:
        ax: the axes to draw into.
        norms: an array of shape (steps,) for each layer, the lowest first.
        steps: array of shape (steps,); the step of each norm. Default: 0, 1, …
        label: the label of the numbers.

    Raises:
        ValueError: `norms` are not arrays by name, or differ in length from `steps`.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> norms = {"hidden1": np.array([1e-3, 1e-2]), "logits": np.array([1.0, 0.5])}
        >>> ax = pictures.gradient_norms(Figure().subplots(), norms, steps=[0, 100])
        >>> ax.get_yscale(), ax.lines[0].get_xdata()
        ('log', array([  0., 100.]))
    """
    arrays = named_numbers("norms", norms, "(steps,)")
    given = None if steps is None else numbers("steps", steps, "(steps,)")
    # Colours of one scale, without the end that is too close to the background.
    low, high = (0.45, 1.0) if is_dark(ax) else (0.0, 0.7)
    colours = mpl.colormaps["cividis"](np.linspace(low, high, len(norms)))
    for index, (name, values) in enumerate(arrays.items()):
        x = np.arange(len(values)) if given is None else given
        if len(x) != len(values):
            expected = f"have {len(x)} numbers, as many as steps"
            raise HyperparameterError(f"norms[{name!r}]", expected, f"{len(values)}")
        ax.plot(x, values, label=plain(name), **line(ax, index) | {"color": colours[index]})
    ax.set_yscale("log")
    return over(ax, "step", label, len(norms))


@declare
def by_layer(ax: Axes, profiles: Mapping[str, Any], label: str) -> Axes:
    """Draws one number for each layer, such as its gradient's norm, on a logarithmic axis.

    Zeros, which a logarithmic axis cannot show, are triangles on the lower edge.

    Args:
        ax: the axes to draw into.
        profiles: by name, arrays of shape (layers,) of numbers >= 0, the lowest layer first.
        label: the label of the numbers.

    Raises:
        ValueError: `profiles` are not arrays by name, or have negative numbers.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> profiles = {"logistic": np.array([1e-6, 1e-4, 1e-2])}
        >>> ax = pictures.by_layer(Figure().subplots(), profiles, "norm of the gradient")
        >>> ax.get_yscale(), ax.lines[0].get_xdata()
        ('log', array([1, 2, 3]))
    """
    arrays = named_numbers("profiles", profiles, "(layers,)")
    for index, (name, values) in enumerate(arrays.items()):
        if np.any(values < 0):
            raise HyperparameterError(f"profiles[{name!r}]", "be >= 0", values)
        layers = np.arange(1, len(values) + 1)
        look = line(ax, index)
        positive = np.where(values > 0, values, np.nan)
        ax.plot(layers, positive, label=plain(name), marker=marker(index), markersize=4, **look)
        zeros = layers[values == 0]
        if zeros.size:
            at_edge: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "clip_on": False}
            ax.plot(zeros, np.zeros(zeros.size), "v", color=colour(ax, index), **at_edge)
    ax.set_yscale("log")
    return over(ax, "layer", label, len(profiles))
