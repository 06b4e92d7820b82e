"""Test surfaces: functions of two numbers that show the paths of optimizers."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Surface:
    """A function of an array of shape (2,), and its properties.

    Attributes:
        name: its name on the command line.
        function: maps an array of shape (2,) to its height.
        start: the start of optimizers.
        bounds: the part to draw: ((left, right), (bottom, top)).
        description: what it tests, in one line.
        minima: the points where the height is least.
        minimum: the height there.
        saddles: points of zero gradient that are not minima, where optimizers may get stuck.
        noise: standard deviation of the noise that `gradient` adds to each element.
    """

    name: str
    function: Callable[[jax.Array], jax.Array]
    start: Point
    bounds: tuple[Point, Point]
    description: str
    minima: tuple[Point, ...] = ((0.0, 0.0),)
    minimum: float = 0.0
    saddles: tuple[Point, ...] = ()
    noise: float = 0.0

    def gradient(self, point: jax.Array, step: jax.typing.ArrayLike, seed: int = 0) -> jax.Array:
        """The gradient at a point, with the noise of that step, if the surface has any.

        A pure function: the same step and seed give the same noise.
        """
        exact = jax.grad(self.function)(point)
        if not self.noise:
            return exact
        key = jax.random.fold_in(jax.random.key(seed), step)
        return exact + self.noise * jax.random.normal(key, point.shape, point.dtype)


def _of_two(
    height: Callable[[jax.Array, jax.Array], jax.Array],
) -> Callable[[jax.Array], jax.Array]:
    """Turns a function of two numbers into one of an array of shape (2,)."""
    return lambda point: height(*point)


# Himmelblau's minima other than (3, 2) have no short form.
_HIMMELBLAU = (
    (3.0, 2.0),
    (-2.805118086952745, 3.131312518250573),
    (-3.779310253377747, -3.283185991286170),
    (3.584428340330492, -1.848126526964404),
)
_RAVINE = Surface(
    "ravine",
    _of_two(lambda x, y: 0.5 * (x**2 + 100.0 * y**2)),
    start=(-1.8, 0.35),
    bounds=((-2.0, 0.6), (-0.5, 0.5)),
    description="Ill-conditioned: curvatures 1 and 100; plain steps zigzag or crawl.",
)

SURFACES: dict[str, Surface] = {
    surface.name: surface
    for surface in (
        Surface(
            "bowl",
            _of_two(lambda x, y: 0.5 * (x**2 + 2.0 * y**2)),
            start=(-1.6, 1.2),
            bounds=((-2.0, 2.0), (-2.0, 2.0)),
            description="Well-conditioned: curvatures 1 and 2; every optimizer works.",
        ),
        _RAVINE,
        Surface(
            "rosenbrock",
            _of_two(lambda x, y: (1.0 - x) ** 2 + 100.0 * (y - x**2) ** 2),
            start=(-1.5, 2.0),
            bounds=((-2.0, 2.0), (-1.0, 3.0)),
            description="A curved ravine: easy to enter, slow to follow.",
            minima=((1.0, 1.0),),
        ),
        Surface(
            "beale",
            _of_two(
                lambda x, y: (
                    (1.5 - x + x * y) ** 2
                    + (2.25 - x + x * y**2) ** 2
                    + (2.625 - x + x * y**3) ** 2
                )
            ),
            start=(1.0, 1.5),
            bounds=((-1.0, 4.5), (-1.5, 2.0)),
            description="A plateau between steep walls: gradients differ widely in size.",
            minima=((3.0, 0.5),),
        ),
        Surface(
            "himmelblau",
            _of_two(lambda x, y: (x**2 + y - 11.0) ** 2 + (x + y**2 - 7.0) ** 2),
            start=(-0.5, -1.0),
            bounds=((-5.0, 5.0), (-5.0, 5.0)),
            description="Four minima of the same height: which one is reached?",
            minima=_HIMMELBLAU,
        ),
        # A plain saddle is unbounded below, so the largest steps would win. Higher powers bound it,
        # with minima of height -1/4 at distance one.
        Surface(
            "saddle",
            _of_two(lambda x, y: 0.5 * x**2 - 0.5 * y**2 + 0.25 * y**4),
            start=(-1.2, 1e-3),
            bounds=((-1.5, 1.5), (-1.5, 1.5)),
            description="A saddle between two valleys: how soon is it left?",
            minima=((0.0, 1.0), (0.0, -1.0)),
            minimum=-0.25,
            saddles=((0.0, 0.0),),
        ),
        Surface(
            "monkey_saddle",
            _of_two(lambda x, y: x**3 - 3.0 * x * y**2 + 0.75 * (x**2 + y**2) ** 2),
            start=(0.9, 1e-3),
            bounds=((-1.5, 1.5), (-1.5, 1.5)),
            description="A saddle with three valleys, where even the curvature is zero.",
            minima=((-1.0, 0.0), (0.5, 0.75**0.5), (0.5, -(0.75**0.5))),
            minimum=-0.25,
            saddles=((0.0, 0.0),),
        ),
        Surface(
            "rastrigin",
            lambda point: 20.0 + jnp.sum(point**2 - 10.0 * jnp.cos(2.0 * jnp.pi * point)),
            start=(-3.3, 2.8),
            bounds=((-5.0, 5.0), (-5.0, 5.0)),
            description="A bowl with many local minima: small steps stay in the first.",
        ),
        dataclasses.replace(
            _RAVINE,
            name="noisy_ravine",
            description="The ravine with noisy gradients, as from small batches.",
            noise=0.3,
        ),
    )
}
