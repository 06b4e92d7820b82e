"""Pictures of test surfaces, and of the paths of optimizers on them."""

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
    """A surface, such as one of `jaxopt_cards.cards.surfaces.SURFACES`."""

    def __hash__(self) -> int:
        """Heights are cached by surface."""

    @property
    def function(self) -> Callable[[jax.Array], jax.Array]:
        """Maps a point, an array of shape (2,), to its height."""

    @property
    def minima(self) -> tuple[_Point, ...]:
        """The points where the height is least."""

    @property
    def minimum(self) -> float:
        """The height there."""

    @property
    def bounds(self) -> tuple[_Point, _Point]:
        """The part to draw: ((left, right), (bottom, top))."""


@declare
def contours(ax: Axes, surface: Surface) -> Axes:
    """Draws the contours of a surface; lower levels are darker (on a dark background, lighter).

    A star marks each minimum. The levels are denser at low heights, so a ravine is visible whatever
    its depth.

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
    # A shade for each level: with shades by height, most of the surface would have the same.
    norm = BoundaryNorm(levels, 256)
    ax.contourf(x, y, heights, levels, cmap=shades(ax), norm=norm)
    # Contours of negative heights would be dashed.
    lines: dict[str, Any] = {"linewidths": 0.4, "alpha": 0.5, "linestyles": "solid"}
    ax.contour(x, y, heights, levels, colors=ink(ax), **lines)
    star: dict[str, Any] = {"markersize": 11, "markeredgewidth": 0, "zorder": 3}
    for place in surface.minima:
        ax.plot(*place, "*", color=ink(ax), **star)
    ax.set(xlim=surface.bounds[0], ylim=surface.bounds[1], xticks=[], yticks=[])
    return ax


@functools.lru_cache(16)  # many pictures show the same surface
def _heights(surface: Surface) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A grid over the bounds, and the heights there."""
    x, y = np.meshgrid(*(np.linspace(*bounds, _GRID) for bounds in surface.bounds))
    points = jnp.asarray(np.stack([x.ravel(), y.ravel()], axis=1), float)
    heights = jax.jit(jax.vmap(surface.function))(points)
    return x, y, np.asarray(heights, np.float64).reshape(x.shape)


@declare
def paths(ax: Axes, surface: Surface, paths: Mapping[str, Any]) -> Axes:
    """Draws the path of each optimizer on the contours of a surface.

    A ring marks the start, a large marker the end, and small markers each tenth of the steps. Paths
    are cut off at the edge of the picture.

    Args:
        ax: the axes to draw into.
        surface: the surface below; its contours are drawn as well.
        paths: by name, arrays of shape (steps + 1, 2): the points, from the start.

    Raises:
        ValueError: `paths` are not such arrays by name.

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
    """Draws the height of each path above the minimum by step, on a logarithmic axis.

    The colours are those of `paths`.

    Args:
        ax: the axes to draw into.
        surface: the surface below.
        paths: by name, arrays of shape (steps + 1, 2): the points, from the start.

    Raises:
        ValueError: `paths` are not such arrays by name.

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
        # A logarithmic axis cannot show zero, nor values that rounding made negative.
        above = np.where(above > 0, above, np.nan)
        ax.plot(above, label=plain(name), **line(ax, index))
    ax.set_yscale("log")
    return over(ax, "step", "height above the minimum", len(paths))


def _drawable(way: np.ndarray, surface: Surface) -> np.ndarray:
    """The path without points that are too far outside for matplotlib, as after divergence."""
    bounds = np.asarray(surface.bounds)
    middle, span = bounds.mean(axis=1), np.ptp(bounds, axis=1)
    far = ~(np.abs(way - middle) < 100 * span).all(axis=1)
    return np.where(far[:, None], np.nan, way)
