"""Races of optimizers on a test surface, each at its best learning rate."""

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

# Four rates per decade, from 1e-5 to 10: a finer grid would tune too closely to the surface.
RATES = tuple(10.0 ** (exponent / 4) for exponent in range(-20, 5))
VALLEY = 1e-3


class Run(NamedTuple):
    """The run of an optimizer.

    Attributes:
        name: the optimizer as it was given.
        learning_rate: the rate that was found; `None` if it was given, or there is none.
        path: the points from the start, float64 of shape (steps + 1, 2).
        heights: the heights of these points, shape (steps + 1,).
        steps_to_valley: number of steps after which it stays in the valley; `None` if never.
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
    """Runs optimizers, given as `adam` or `adam:lr=0.1,b1=0.5`, on a surface.

    An optimizer is in the valley if its height above the minimum is at most a thousandth of the
    start's. Without a learning rate, an optimizer gets the one of `RATES` that reaches the valley
    in the fewest steps or, if none does, ends lowest.

    Args:
        surface: the name of one of `SURFACES`, or your own `Surface`.
        optimizers: optimizers as text; several stages separated by spaces are a chain.
        steps: number of steps.
        start: two numbers. Default: that of the surface.

    Returns:
        A `Run` for each optimizer.

    Raises:
        ValueError: a name or argument is unknown, or the start is not two numbers.

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
        expected = "be a point with finite height in float32"
        raise HyperparameterError("start", expected, begin.tolist())
    # All are built before the first run, so that errors are raised at once.
    runners = [_runner(text) for text in optimizers]
    for text, make, _ in runners:
        check_step(text, make(RATES[0]), point, **_told(ground, point))
    return [tuned(*runner, ground, steps, begin) for runner in runners]


def _runner(text: str) -> tuple[str, Callable[[Any], Any], Sequence[float]]:
    """The optimizer's name, a function that makes it, and the rates to try; none if given."""
    parts = spec_text.stages(text)
    if len(parts) == 1:
        spec = spec_text.parse(text)
        known = spec_text.transformations()
        parameter = inspect.signature(spec_text.named(spec.name, known)).parameters.get(
            "learning_rate"
        )
        # L-BFGS, whose default rate is `None`, has a line search.
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
    """The run with the best rate; one compiled program runs all rates."""
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
    """The points and heights of a run, in one scan."""
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
    """Extra arguments that an optimizer may need at a point, such as for a line search."""
    gradient = surface.gradient(point, index)
    return {"value": surface.function(point), "grad": gradient, "value_fn": surface.function}


def _arrival(heights: np.ndarray, limit: float) -> int | None:
    """The first step after which all heights are below the limit, without NaN."""
    outside = np.flatnonzero(~(heights <= limit))
    arrival = int(outside[-1]) + 1 if outside.size else 0
    return arrival if arrival < len(heights) else None


def _or_inf(number: float | None) -> float:
    return math.inf if number is None or not math.isfinite(number) else number
