"""The colours, line styles and markers of all pictures."""

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb, to_rgba
from matplotlib.ticker import MaxNLocator

from jaxopt_cards.core.checks import escaped
from jaxopt_cards.core.declaration import declare

# Masataka Okabe, Kei Ito (2008), Color Universal Design. Without yellow, which is too pale on
# white, and without blue, which is too dark on black.
_LIGHT = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_DARK = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#ffffff")
# Five styles for seven colours: 35 lines differ.
_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")

_INK, _PAPER = {False: "#202020", True: "#e6e6e6"}, {False: "#ffffff", True: "#16181d"}


@declare
@contextlib.contextmanager
def style(dark: bool = False) -> Iterator[None]:
    """Sets the style of all pictures inside a `with` block.

    Create figures inside the block, since axes get their colours when they are created.

    Args:
        dark: light ink on a dark background.

    Returns:
        A context manager.

    Example:
        >>> import matplotlib
        >>> from jaxopt_cards import pictures
        >>> with pictures.style(dark=True):
        ...     print(matplotlib.rcParams["figure.facecolor"])
        #16181d
    """
    ink, paper = _INK[bool(dark)], _PAPER[bool(dark)]
    settings: Any = {
        "figure.facecolor": paper,
        "axes.facecolor": paper,
        "legend.facecolor": paper,
        "axes.edgecolor": ink,
        "axes.labelcolor": ink,
        "text.color": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "grid.color": ink,
        "grid.alpha": 0.15,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": cycler(color=_DARK if dark else _LIGHT),
        "axes.titlesize": 10,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 8,
        "figure.constrained_layout.use": True,
    }
    with mpl.rc_context(settings):
        yield


def plain(name: object) -> str:
    """A name as plain text: no formulas between dollars, no characters that fonts lack."""
    return escaped(name, lines=True).replace("$", r"\$")


def is_dark(ax: Axes) -> bool:
    """Whether the axes have a dark background, by its perceived lightness."""
    red, green, blue = to_rgb(paper(ax))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.5


def colour(ax: Axes, index: int) -> str:
    """Colour number `index`, from 0."""
    colours = _DARK if is_dark(ax) else _LIGHT
    return colours[index % len(colours)]


def line(ax: Axes, index: int) -> dict[str, Any]:
    """The style of line number `index`, from 0; the first 35 differ."""
    look = {"color": colour(ax, index), "linestyle": _LINES[index % len(_LINES)]}
    return look | {"linewidth": 1.6}


def marker(index: int) -> str:
    """Marker number `index`, from 0."""
    return _MARKERS[index % len(_MARKERS)]


def ink(ax: Axes) -> str:
    """The colour of text on the axes."""
    return _INK[is_dark(ax)]


def paper(ax: Axes) -> str:
    """The colour of the background."""
    axes, figure = ax.get_facecolor(), ax.get_figure()
    # Axes without a background show that of the figure.
    return to_hex(axes if figure is None or to_rgba(axes)[3] else figure.get_facecolor())


def shades(ax: Axes) -> LinearSegmentedColormap:
    """From the background to grey, for surfaces behind lines."""
    grey = "#666b75" if is_dark(ax) else "#a9aeb8"
    return LinearSegmentedColormap.from_list("shades", [grey, paper(ax)])


def tones(ax: Axes) -> LinearSegmentedColormap:
    """From the background to ink, for images and tables of counts."""
    return LinearSegmentedColormap.from_list("tones", [paper(ax), ink(ax)])


def legend(ax: Axes, count: int) -> None:
    """Adds a legend if there are several lines; beside the axes if there are many."""
    behind = {"facecolor": ax.get_facecolor(), "edgecolor": "none", "framealpha": 0.75}
    if count > 6:
        ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=True, **behind)
    elif count > 1:
        ax.legend(loc="best", frameon=True, **behind)


def over(ax: Axes, what: str, label: str, count: int) -> Axes:
    """Labels the axes, and adds a legend; the x-axis has whole numbers."""
    ax.set(xlabel=what, ylabel=label)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    ax.grid(alpha=0.15)
    legend(ax, count)
    return ax
