"""Helpers of the drawers: their register, stacks of boxes, and arrows."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Patch, Rectangle

from jaxopt_cards.pictures.theme import colour, ink, paper

Drawer = Callable[[Axes, str], str]  # returns the title
DRAWERS: dict[str, Drawer] = {}
# For each role: number and opacity of its colour, and a pattern to recognise it in grey.
ROLES = {
    "given": (6, 0.08, ""),
    "frozen": (6, 0.08, "////"),
    "taken": (0, 0.45, ""),
    "trained": (1, 0.45, ""),
    "new": (2, 0.45, "...."),
    "skipped": (6, 0.0, ""),
}


def draws(*names: str) -> Callable[[Drawer], Drawer]:
    """Registers a drawer for these techniques."""

    def registered(drawer: Drawer) -> Drawer:
        DRAWERS.update(dict.fromkeys(names, drawer))
        return drawer

    return registered


def stacks(
    ax: Axes, columns: Sequence[tuple[str, Sequence[tuple[str, str]]]], *, arrows: bool = True
) -> None:
    """Draws columns of boxes, each a text and its role, the lowest first, with arrows between."""
    for index, (title, boxes) in enumerate(columns):
        x = 1.5 * index
        for row, (text, role) in enumerate(boxes):
            box(ax, text, role, x, row)
        ax.text(x + 0.5, -0.15, title, ha="center", va="top", fontsize=8)
        if arrows and index:
            _arrow(ax, x - 0.45, x - 0.05, max(len(boxes), len(columns[index - 1][1])) / 2)
    tallest = max(len(boxes) for _, boxes in columns)
    ax.set(xlim=(-0.1, 1.5 * len(columns) - 0.4), ylim=(-0.6, tallest + 0.1))
    ax.set_axis_off()
    roles = dict.fromkeys(role for _, boxes in columns for _, role in boxes)
    key(ax, [role for role in roles if role != "given"])


def box(
    ax: Axes, text: str, role: str, x: float, y: float, width: float = 1.0, height: float = 0.9
) -> None:
    """Draws a box with its text, in the style of its role."""
    ax.add_patch(Rectangle((x, y), width, height, **_look(ax, role)))
    shade = 0.45 if role == "skipped" else 1.0
    # No pattern behind the text.
    behind = {"facecolor": paper(ax), "edgecolor": "none", "pad": 0.8, "alpha": 0.75}
    words: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 7.5, "alpha": shade}
    words |= {"bbox": behind} if ROLES[role][2] else {}
    ax.text(x + width / 2, y + height / 2, text, **words)


def key(ax: Axes, roles: Sequence[str]) -> None:
    """Draws a legend of the roles below the boxes."""
    if roles:
        handles = [Patch(label=role, **_look(ax, role)) for role in roles]
        place: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.02), "ncols": len(handles)}
        ax.legend(handles=handles, frameon=False, **place)


def _look(ax: Axes, role: str) -> dict[str, Any]:
    number, strength, hatch = ROLES[role]
    edge = {"edgecolor": ink(ax), "linewidth": 0.8, "hatch": hatch}
    if role == "skipped":
        return edge | {"facecolor": "none", "linestyle": ":"}
    return edge | {"facecolor": to_rgba(colour(ax, number), strength)}


def _arrow(ax: Axes, start: float, end: float, y: float) -> None:
    look = {"arrowstyle": "->", "color": ink(ax), "linewidth": 1.2}
    ax.annotate("", (end, y), (start, y), arrowprops=look)


def walked(
    tx: Any, start: Any, gradient: Callable[[Any, Any, Any], Any], given: Any
) -> tuple[Any, Any]:
    """Parameters and state after each step, with `gradient(params, state, given[step])`."""

    def step(carry: Any, given: Any) -> Any:
        params, state = carry
        updates, state = tx.update(gradient(params, state, given), state, params)
        carry = optax.apply_updates(params, updates), state
        return carry, carry

    scan = jax.jit(lambda carry: jax.lax.scan(step, carry, jnp.asarray(given, float))[1])
    return scan((start, tx.init(start)))


def vectors(ax: Axes, ends: Sequence[np.ndarray], label: str, number: int, width: float) -> None:
    """Draws arrows from the origin."""
    look: dict[str, Any] = {"width": width, "angles": "xy", "scale_units": "xy", "scale": 1}
    x, y = np.asarray(ends, float).T
    ax.quiver(0 * x, 0 * y, x, y, color=colour(ax, number), label=label, **look)


def plane(ax: Axes, size: float) -> None:
    """Draws axes through the origin, with equal scales."""
    ax.set(xlim=(-size, size), ylim=(-size, size), aspect="equal")
    ax.axhline(0, color=ink(ax), linewidth=0.4)
    ax.axvline(0, color=ink(ax), linewidth=0.4)
