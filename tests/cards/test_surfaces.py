"""The test surfaces: what is said of each is found out again."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_cards.cards.surfaces import SURFACES

surfaces = pytest.mark.parametrize("surface", SURFACES.values(), ids=SURFACES)


def places(kind):
    return [
        pytest.param(surface, place, id=f"{name}{index}")
        for name, surface in SURFACES.items()
        for index, place in enumerate(getattr(surface, kind))
    ]


def steepness(surface, place):
    """Value, gradient and eigenvalues of the curvature, in float64."""
    value, gradient, curvature = _measured(surface)(jnp.asarray(place, float))
    return float(value), gradient, np.linalg.eigvalsh(curvature)


@functools.cache
def _measured(surface):
    function = surface.function
    return jax.jit(lambda at: (function(at), jax.grad(function)(at), jax.hessian(function)(at)))


@pytest.mark.parametrize(("surface", "place"), places("minima"))
def test_at_a_minimum_the_gradient_is_zero_and_all_ways_lead_up(x64, surface, place):
    value, gradient, curvature = steepness(surface, place)
    np.testing.assert_allclose(value, surface.minimum, atol=1e-12)
    np.testing.assert_allclose(gradient, 0, atol=1e-10)
    assert float(curvature.min()) > 0


@pytest.mark.parametrize(("surface", "place"), places("saddles"))
def test_at_a_saddle_the_gradient_is_zero_and_ways_lead_up_and_down(x64, surface, place):
    value, gradient, curvature = steepness(surface, place)
    np.testing.assert_allclose(gradient, 0, atol=1e-12)
    # The monkey's saddle has no curvature at all, so that only a walk around tells.
    assert curvature.min() < 0 < curvature.max() or not np.any(curvature)
    angles = np.linspace(0, 2 * np.pi, 24)
    around = jnp.asarray(place)[None] + 1e-2 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
    heights = jax.vmap(surface.function)(around)
    assert heights.min() < value < heights.max()


@surfaces
def test_nothing_in_the_picture_is_below_the_minimum(surface):
    x, y = np.meshgrid(*(np.linspace(*bounds, 300) for bounds in surface.bounds))
    points = jnp.asarray(np.stack([x.ravel(), y.ravel()], axis=1), float)
    lowest = float(jax.jit(jax.vmap(surface.function))(points).min())
    assert lowest >= surface.minimum - 1e-5 * max(1, abs(surface.minimum))


@surfaces
def test_start_and_minima_are_in_the_picture(surface):
    low, high = np.transpose(surface.bounds)
    for place in [surface.start, *surface.minima, *surface.saddles]:
        assert np.all((low < place) & (place < high))


@pytest.mark.parametrize(("surface", "place"), places("minima"))
def test_scipy_finds_the_same_minimum(x64, surface, place):
    optimize = pytest.importorskip("scipy.optimize")
    function = jax.jit(surface.function)
    begin = np.add(place, (0.04, -0.03))
    found = optimize.minimize(function, begin, method="Nelder-Mead", options={"xatol": 1e-8})
    np.testing.assert_allclose(found.x, place, atol=1e-4)
    np.testing.assert_allclose(found.fun, surface.minimum, atol=1e-8)


def test_curvatures_are_those_that_the_descriptions_say(x64):
    for name, expected in {"bowl": [1, 2], "ravine": [1, 100]}.items():
        assert str(expected[0]) in SURFACES[name].description
        assert str(expected[1]) in SURFACES[name].description
        np.testing.assert_allclose(steepness(SURFACES[name], (0.3, 0.2))[2], expected)


def test_noise_is_that_of_the_step_and_of_the_size_said(x64):
    surface, point = SURFACES["noisy_ravine"], jnp.array([0.5, -0.1])
    noisy = jax.jit(jax.vmap(surface.gradient, (None, 0, None)), static_argnums=2)
    steps = jnp.arange(4000)
    noise = noisy(point, steps, 0) - jax.grad(surface.function)(point)[None]
    np.testing.assert_array_equal(noisy(point, steps, 0), noisy(point, steps, 0))
    assert not np.any(noisy(point, steps, 1)[:10] == noisy(point, steps, 0)[:10])
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=4 * surface.noise / 4000**0.5)
    np.testing.assert_allclose(noise.std(axis=0), surface.noise, rtol=0.05)


def test_without_noise_the_gradient_is_exact():
    surface = SURFACES["rosenbrock"]
    point = jnp.asarray(surface.start, float)
    np.testing.assert_array_equal(surface.gradient(point, 7), jax.grad(surface.function)(point))
