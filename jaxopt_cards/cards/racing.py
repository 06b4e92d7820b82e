"""Races: optimizers on a test surface, each at its own best learning rate."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_cards.cards import spec_text
from jaxopt_cards.cards.spec_checks import check_step
from jaxopt_cards.cards.surfaces import SURFACES, Surface
from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare

# Four rates a decade, from 1e-5 to 10: finer would tune to the surface more than anybody does.
RATES = tuple(10.0 ** (exponent / 4) for exponent in range(-20, 5))
VALLEY = 1e-3


class Run(NamedTuple):
    """One optimizer's way.

    Attributes:
        name: as it was written.
        learning_rate: the rate that was found; `None` where it was given, or is none.
        path: points, the start first; float64 of shape (steps + 1, 2).
        heights: of these points, shape (steps + 1,).
        steps_to_valley: steps after which it is in the valley and stays there; `None` if never.
    """

    name: str
    learning_rate: float | None
    path: np.ndarray
    heights: np.ndarray
    steps_to_valley: int | None


@declare
def race(
    surface: str | Surface,
    optimizers: Sequence[str],
    steps: Annotated[int, "[1, inf)"] = 500,
    start: Sequence[float] | None = None,
) -> list[Run]:
    """Runs optimizers, written as `adam` or `adam:lr=0.1,b1=0.5`, on a surface.

    In the valley is what is at most a thousandth as high above the minimum as the start. Without a
    learning rate an optimizer gets the one of `RATES` that brings it there in the fewest steps, or
    if none does, that ends lowest.

    Args:
        surface: one of `SURFACES`, by its name, or one of your own.
        optimizers: as written; with spaces, chains.
        steps: whole number > 0.
        start: two numbers. Default: the surface's own.

    Returns:
        A `Run` for each optimizer.

    Raises:
        ValueError: an unknown name or argument, or a start that is not two numbers.

    Example:
        >>> from jaxopt_cards.cards import race
        >>> for run in race("bowl", ["sgd:lr=0.1", "sgd:lr=0.5"], steps=50):
        ...     print(run.name, run.steps_to_valley)
        sgd:lr=0.1 30
        sgd:lr=0.5 5
    """
    ground: Surface = spec_text.named(surface, SURFACES) if isinstance(surface, str) else surface
    begin = np.asarray(ground.start if start is None else start, np.float64)
    if begin.shape != (2,) or not np.all(np.isfinite(begin)):
        raise HyperparameterError("start", "be two finite numbers", start)
    point = jnp.asarray(begin, float)
    if not jnp.isfinite(ground.function(point)):
        expected = "be where the surface is finite in float32"
        raise HyperparameterError("start", expected, begin.tolist())
    # All are built before the first runs: a misspelt name should not have to wait for the others.
    runners = [_runner(text) for text in optimizers]
    for text, make, _ in runners:
        check_step(text, make(RATES[0]), point, **_told(ground, point))
    return [tuned(*runner, ground, steps, begin) for runner in runners]


def _runner(text: str) -> tuple[str, Callable[[Any], Any], Sequence[float]]:
    """The optimizer's name, how to make it with a rate, and the rates to try: none if given."""
    parts = spec_text.stages(text)
    if len(parts) == 1:
        spec = spec_text.parse(text)
        known = spec_text.transformations()
        parameter = inspect.signature(spec_text.named(spec.name, known)).parameters.get(
            "learning_rate"
        )
        # A rate whose default is `None`, as that of L-BFGS, is found by a line search of its own.
        searched = parameter is not None and parameter.default is not None
        if searched and not spec.args and "learning_rate" not in spec.kwargs:

            def with_rate(rate: Any) -> Any:
                kwargs = spec.kwargs | {"learning_rate": rate}
                return spec_text.build(spec._replace(kwargs=kwargs), known)

            return text, with_rate, RATES
    tx = spec_text.transformation(text)
    return text, lambda rate: tx, ()


def tuned(
    name: str,
    make: Callable[[Any], Any],
    rates: Sequence[float],
    surface: Surface,
    steps: int,
    begin: np.ndarray,
) -> Run:
    """One compiled program for all rates, and of these the best."""
    start = jnp.asarray(begin, float)

    def ways(rate: Any) -> tuple[jax.Array, jax.Array]:
        return way(make(rate), surface, steps, start)

    tried = jnp.asarray(rates if rates else [0.0], float)
    points, heights = (np.asarray(a, np.float64) for a in jax.jit(jax.vmap(ways))(tried))
    limit = surface.minimum + VALLEY * (heights[0, 0] - surface.minimum)
    arrivals = [_arrival(row, limit) for row in heights]
    best = min(range(len(arrivals)), key=lambda i: (_or_inf(arrivals[i]), _or_inf(heights[i, -1])))
    rate = float(rates[best]) if rates else None
    return Run(name, rate, points[best], heights[best], arrivals[best])


def way(
    tx: optax.GradientTransformation, surface: Surface, steps: int, start: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Points and heights from the start on, in one scan."""
    tx = optax.with_extra_args_support(tx)

    def step(carry: Any, index: jax.Array) -> Any:
        point, state = carry
        told = _told(surface, point, index)
        updates, state = tx.update(told["grad"], state, point, **told)
        point = optax.apply_updates(point, updates)
        return (point, state), point

    _, points = jax.lax.scan(step, (start, tx.init(start)), jnp.arange(steps))
    points = jnp.concatenate([start[None], points])
    return points, jax.vmap(surface.function)(points)


def _told(surface: Surface, point: jax.Array, index: Any = 0) -> dict[str, Any]:
    """What an optimizer may want to know at a point, a line search above all."""
    gradient = surface.gradient(point, index)
    return {"value": surface.function(point), "grad": gradient, "value_fn": surface.function}


def _arrival(heights: np.ndarray, limit: float) -> int | None:
    """The first step from which on all heights are below the limit; NaN is not."""
    outside = np.flatnonzero(~(heights <= limit))
    arrival = int(outside[-1]) + 1 if outside.size else 0
    return arrival if arrival < len(heights) else None


def _or_inf(number: float | None) -> float:
    return math.inf if number is None or not math.isfinite(number) else number
