"""Pictures of test surfaces, and of the paths that optimizers take on them."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.pictures.inputs import named_numbers
from jaxopt_cards.pictures.theme import colour, ink, legend, line, marker, over, plain, shades

_GRID = 201
_LEVELS = 15
_Point = tuple[float, float]


class Surface(Protocol):
    """What is drawn, such as one of `jaxopt_cards.cards.SURFACES`."""

    def __hash__(self) -> int:
        """Heights are computed once a surface."""

    @property
    def function(self) -> Callable[[jax.Array], jax.Array]:
        """From a point, an array of shape (2,), to its height."""

    @property
    def minima(self) -> tuple[_Point, ...]:
        """The points where it is least."""

    @property
    def minimum(self) -> float:
        """The height there."""

    @property
    def bounds(self) -> tuple[_Point, _Point]:
        """The part to draw: ((left, right), (bottom, top))."""


@declare
def contours(ax: Axes, surface: Surface) -> Axes:
    """A surface from above: the lower, the darker (on a dark background, the lighter).

    A star stands at each minimum. The levels part the area so that low ground has more of them: a
    ravine shows whatever its depth.

    Args:
        ax: the axes to draw into.
        surface: one of `jaxopt_cards.cards.surfaces.SURFACES`, or a `Surface` of your own.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> from jaxopt_cards.cards.surfaces import SURFACES
        >>> ax = pictures.contours(Figure().subplots(), SURFACES["rosenbrock"])
        >>> ax.lines[0].get_xydata()
        array([[1., 1.]])
    """
    x, y, heights = _heights(surface)
    levels = np.unique(np.quantile(heights, np.linspace(0, 1, _LEVELS) ** 2))
    # A shade for each level: shades by height would leave all but the highest ground in one.
    norm = BoundaryNorm(levels, 256)
    ax.contourf(x, y, heights, levels, cmap=shades(ax), norm=norm)
    # A contour of negative height would be dashed, as if it were another kind.
    lines: dict[str, Any] = {"linewidths": 0.4, "alpha": 0.5, "linestyles": "solid"}
    ax.contour(x, y, heights, levels, colors=ink(ax), **lines)
    star: dict[str, Any] = {"markersize": 11, "markeredgewidth": 0, "zorder": 3}
    for place in surface.minima:
        ax.plot(*place, "*", color=ink(ax), **star)
    ax.set(xlim=surface.bounds[0], ylim=surface.bounds[1], xticks=[], yticks=[])
    return ax


@functools.lru_cache(16)  # of surfaces that never change: many pictures stand on the same one
def _heights(surface: Surface) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grid over the bounds, and the heights there."""
    x, y = np.meshgrid(*(np.linspace(*bounds, _GRID) for bounds in surface.bounds))
    points = jnp.asarray(np.stack([x.ravel(), y.ravel()], axis=1), float)
    heights = jax.jit(jax.vmap(surface.function))(points)
    return x, y, np.asarray(heights, np.float64).reshape(x.shape)


@declare
def paths(ax: Axes, surface: Surface, paths: Mapping[str, Any]) -> Axes:
    """The way of each optimizer over the contours of a surface, from a ring to a large marker.

    Small markers stand every tenth of the steps: where they are close, the way was slow. A way that
    leaves the picture is cut off at its edge.

    Args:
        ax: the axes to draw into.
        surface: the surface below; its contours are drawn as well.
        paths: for each name an array of shape (steps + 1, 2): the points, the start first.

    Raises:
        ValueError: `paths` that are not such arrays by name.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> from jaxopt_cards.cards.surfaces import SURFACES
        >>> straight = np.array([[1.5, 0.75], [0.75, 0.375], [0.0, 0.0]])
        >>> ax = pictures.paths(Figure().subplots(), SURFACES["bowl"], {"straight": straight})
        >>> [line.get_label() for line in ax.lines if len(line.get_xdata()) == 3]
        ['straight']
    """
    ways = named_numbers("paths", paths, "(steps + 1, 2)")
    contours(ax, surface)
    for index, (name, way) in enumerate(ways.items()):
        way = _drawable(way, surface)
        every = max(1, len(way) // 10)
        look = line(ax, index) | {"marker": marker(index), "markersize": 4, "markevery": every}
        ax.plot(way[:, 0], way[:, 1], label=plain(name), **look)
        ax.plot(*way[-1], marker(index), color=colour(ax, index), markersize=8, mec=ink(ax))
    for start in {tuple(way[0]) for way in ways.values()}:
        ax.plot(*start, "o", color="none", mec=ink(ax), markersize=10, markeredgewidth=1.5)
    legend(ax, len(ways) + (len(ways) == 1))
    return ax


@declare
def heights(ax: Axes, surface: Surface, paths: Mapping[str, Any]) -> Axes:
    """The height of each way above the minimum by step, on a logarithmic axis.

    Lines have the colours that `paths` gives them.

    Args:
        ax: the axes to draw into.
        surface: the surface below.
        paths: for each name an array of shape (steps + 1, 2): the points, the start first.

    Raises:
        ValueError: `paths` that are not such arrays by name.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> from jaxopt_cards.cards.surfaces import SURFACES
        >>> straight = np.array([[2.0, 0.0], [1.0, 0.0]])
        >>> ax = pictures.heights(Figure().subplots(), SURFACES["bowl"], {"straight": straight})
        >>> ax.lines[0].get_ydata()
        array([2. , 0.5])
    """
    ways = named_numbers("paths", paths, "(steps + 1, 2)")
    for index, (name, points) in enumerate(ways.items()):
        reached = jax.vmap(surface.function)(jnp.asarray(points, float))
        above = np.asarray(reached, np.float64) - surface.minimum
        # Neither zero, nor what rounding puts below it, has a place on the axis.
        above = np.where(above > 0, above, np.nan)
        ax.plot(above, label=plain(name), **line(ax, index))
    ax.set_yscale("log")
    return over(ax, "step", "height above the minimum", len(paths))


def _drawable(way: np.ndarray, surface: Surface) -> np.ndarray:
    """Without the points far outside: an optimizer that diverges reaches what no canvas has."""
    bounds = np.asarray(surface.bounds)
    middle, span = bounds.mean(axis=1), np.ptp(bounds, axis=1)
    far = ~(np.abs(way - middle) < 100 * span).all(axis=1)
    return np.where(far[:, None], np.nan, way)
