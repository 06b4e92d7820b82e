"""Pictures of activations and of sparse models."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.pictures.inputs import named, named_numbers, numbers
from jaxopt_cards.pictures.theme import colour, legend, line, marker, plain

_BINS = 60
_TALLEST = 0.85  # of the distance between two layers


@declare
def activation_histograms(
    ax: Axes, activations: Mapping[str, Any], label: str = "activation"
) -> Axes:
    """Draws a histogram for each layer, the lowest at the bottom, all with the same bins.

    Each histogram is scaled to its largest bin, since its shape shows whether a layer is saturated
    or dead.

    Args:
        ax: the axes to draw into.
        activations: an array of any shape for each layer, the lowest first.
        label: the label of the numbers.

    Raises:
        ValueError: `activations` are not finite arrays by name.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> normal = np.random.default_rng(0).normal(size=(2, 1000))
        >>> layers = {"hidden1": normal[0], "hidden2": 0.1 * normal[1]}
        >>> ax = pictures.activation_histograms(Figure().subplots(), layers)
        >>> [text.get_text() for text in ax.get_yticklabels()]
        ['hidden1', 'hidden2']
    """
    named("activations", activations)
    arrays = {}
    for name, values in activations.items():
        arrays[name] = numbers(f"activations[{name!r}]", np.ravel(values), "(n,)")
        if not np.all(np.isfinite(arrays[name])):
            raise HyperparameterError(f"activations[{name!r}]", "be finite", values)
    low = min(flat.min() for flat in arrays.values())
    high = max(flat.max() for flat in arrays.values())
    # If all values are equal, the same bins as NumPy's histogram.
    edges = np.linspace(low, high, _BINS + 1) if high > low else low + np.linspace(-0.5, 0.5, 2)
    for index, flat in enumerate(arrays.values()):
        counts, _ = np.histogram(flat, edges)
        heights = index + _TALLEST * counts / counts.max()
        ax.stairs(heights, edges, baseline=index, fill=True, color=colour(ax, 0), alpha=0.35)
        ax.stairs(heights, edges, baseline=index, color=colour(ax, 0), linewidth=0.8)
    ax.set_yticks(np.arange(len(arrays)), list(map(plain, arrays)))
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(-0.1, len(arrays)), xlabel=label)
    return ax


@declare
def sparsity(ax: Axes, points: Mapping[str, Any]) -> Axes:
    """Draws accuracy against the fraction of weights that are zero.

    Args:
        ax: the axes to draw into.
        points: by name, arrays of shape (points, 2): the fraction of zeros, in [0, 1], and the
            accuracy in percent.

    Raises:
        ValueError: `points` are not such arrays by name.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> points = {"pruned": np.array([[0.5, 98.0], [0.9, 96.5]])}
        >>> pictures.sparsity(Figure().subplots(), points).lines[0].get_xdata()
        array([50., 90.])
    """
    arrays = named_numbers("points", points, "(points, 2)")
    for index, (name, values) in enumerate(arrays.items()):
        if np.any(values[:, 0] < 0) or np.any(values[:, 0] > 1):
            expected = "have fractions of zeros in [0, 1]"
            raise HyperparameterError(f"points[{name!r}]", expected, values[:, 0])
        look: dict[str, Any] = {"marker": marker(index), "markersize": 5} | line(ax, index)
        ax.plot(100 * values[:, 0], values[:, 1], label=plain(name), **look)
    ax.set(xlabel="weights that are zero, %", ylabel="accuracy, %")
    ax.grid(alpha=0.15)
    legend(ax, len(points))
    return ax
