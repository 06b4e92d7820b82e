"""Pictures of paths of optimizers on a test surface."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import jaxopt_cards as jc
from jaxopt_cards import pictures
from jaxopt_cards.cards.gallery.drawing import draws, walked
from jaxopt_cards.cards.racing import RATES, way
from jaxopt_cards.cards.surfaces import SURFACES, Surface
from jaxopt_cards.optimizers import by_name
from jaxopt_cards.pictures.theme import colour

_STEPS = 200
# For each optimizer a surface on which it differs from the other one.
_BESIDE = {
    "sgd": ("ravine", None),
    "momentum": ("ravine", "sgd"),
    "nesterov": ("ravine", "momentum"),
    "adagrad": ("beale", "sgd"),
    "adadelta": ("beale", "adagrad"),
    "rmsprop": ("rosenbrock", "adagrad"),
    "adam": ("rosenbrock", "sgd"),
    "nadam": ("rosenbrock", "adam"),
    "adamax": ("beale", "adam"),
    "amsgrad": ("ravine", "adam"),
    "radam": ("saddle", "adam"),
    "adabound": ("himmelblau", "adam"),
    "amsbound": ("saddle", "adabound"),
}
_DEFAULT = ("rosenbrock", "adam")


@functools.cache
def _best(name: str, surface: Surface) -> np.ndarray:
    """The path that ends lowest, among the rates of a race whose paths stay in view."""
    start = jnp.asarray(surface.start, float)
    make = getattr(jc, name)
    run = jax.jit(jax.vmap(lambda rate: way(make(rate), surface, _STEPS, start)))
    points, heights = map(np.asarray, run(jnp.asarray(RATES, float)))
    low, high = np.transpose(surface.bounds)
    inside = np.all((points >= low) & (points <= high), axis=(1, 2))
    return points[np.argmin(np.where(inside, heights[:, -1], np.inf))]


@draws(*by_name())
def _optimizers(ax: Axes, name: str) -> str:
    place, other = _BESIDE.get(name, _DEFAULT)
    surface = SURFACES[place]
    names = (name, other) if other else (name,)
    pictures.paths(ax, surface, {each: _best(each, surface) for each in names})
    return f"{_STEPS} steps, at the best rate for this surface"


@draws("adamw")
def _decayed(ax: Axes, name: str) -> str:
    surface = SURFACES["himmelblau"]
    txs = {"adamw": jc.adamw(0.1, weight_decay=0.5), "adam": jc.adam(0.1)}
    pictures.paths(ax, surface, {each: _path(tx, surface, _STEPS) for each, tx in txs.items()})
    ax.plot(0, 0, "+", color=colour(ax, 0), markersize=12)
    return "decay by 0.5 pulls the weights towards zero (+)"


@draws("lbfgs")
def _newton_like(ax: Axes, name: str) -> str:
    surface = SURFACES["rosenbrock"]
    paths = {name: _path(jc.lbfgs(), surface, 40), "adam": _best("adam", surface)[:41]}
    pictures.paths(ax, surface, paths)
    return "40 steps; Adam at its best rate"


@draws("lookahead")
def _lookahead(ax: Axes, name: str) -> str:
    surface = SURFACES["ravine"]
    ways = {"sgd": jc.sgd(0.0195), "lookahead(sgd)": jc.lookahead(jc.sgd(0.0195))}
    pictures.paths(ax, surface, {label: _path(tx, surface, 30) for label, tx in ways.items()})
    return "halfway back after every fifth step"


@draws("slow_weights")
def _slow_weights(ax: Axes, name: str) -> str:
    surface = SURFACES["ravine"]
    tx = jc.lookahead(jc.sgd(0.0195))
    points, states = _followed(tx, surface, lambda point, *_: jax.grad(surface.function)(point), 30)
    slow = np.asarray(jax.vmap(jc.slow_weights)(points[1:], states))
    pictures.paths(ax, surface, {"parameters": points, name: slow})
    return "what is evaluated while the fast ones go on"


@draws("polyak_average")
def _average(ax: Axes, name: str) -> str:
    surface = SURFACES["noisy_ravine"]
    tx = jc.chain(jc.sgd(0.018), jc.polyak_average(0.95))
    points, state = _followed(tx, surface, lambda point, _, i: surface.gradient(point, i), 150)
    averages = np.concatenate([points[:1], state[-1].average])
    pictures.paths(ax, surface, {"parameters": points, "their average": averages})
    return "150 steps with noisy gradients"


@draws("scale_by_true_nesterov")
def _true_nesterov(ax: Axes, name: str) -> str:
    surface = SURFACES["ravine"]
    points, _ = _nesterov(surface, 60)
    momentum = _path(jc.momentum(0.01), surface, 60)
    pictures.paths(ax, surface, {name: points, "momentum": momentum})
    return "60 steps, with the gradient measured ahead"


@draws("nesterov_point")
def _ahead(ax: Axes, name: str) -> str:
    surface = SURFACES["bowl"]
    points, states = _nesterov(surface, 15, rate=0.1)
    few = jax.tree.map(lambda leaf: leaf[:7], states)
    ahead = np.asarray(jax.vmap(jc.nesterov_point)(points[1:8], few))
    pictures.paths(ax, surface, {"parameters": points})
    for point, place in zip(points[1:8], ahead, strict=True):
        look = {"arrowstyle": "->", "color": colour(ax, 1), "linewidth": 1.2}
        ax.annotate("", place, point, arrowprops=look)
    ax.plot(*ahead.T, "s", color=colour(ax, 1), markersize=4, label="nesterov_point")
    ax.legend(loc="upper right")
    return "the points where gradients are measured"


def _path(tx: Any, surface: Surface, steps: int) -> np.ndarray:
    start = jnp.asarray(surface.start, float)
    return np.asarray(jax.jit(lambda point: way(tx, surface, steps, point)[0])(start))


def _followed(tx: Any, surface: Surface, gradient: Any, steps: int) -> tuple[np.ndarray, Any]:
    """The points from the start, and the states after each step."""
    start = jnp.asarray(surface.start, float)
    points, states = walked(tx, start, gradient, np.arange(steps))
    return np.concatenate([start[None], points]), states


def _nesterov(surface: Surface, steps: int, rate: float = 0.01) -> tuple[np.ndarray, Any]:
    """The points and states, with gradients measured ahead."""

    def ahead(point: Any, state: Any, _: Any) -> Any:
        return jax.grad(surface.function)(jc.nesterov_point(point, state))

    return _followed(jc.scale_by_true_nesterov(rate), surface, ahead, steps)
