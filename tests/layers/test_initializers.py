"""Initialisers against Géron's table 11-1."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_cards.layers.initializers import initializer

INPUTS, OUTPUTS = 300, 700
FACTORS = {"logistic": 1, "tanh": 4, "relu": np.sqrt(2)}


@pytest.mark.parametrize("activation", FACTORS)
@pytest.mark.parametrize("end", ["", "_fan_in"])
def test_table_11_1(activation, end):
    # Where inputs alone are counted, the layer is taken to have as many outputs.
    units = INPUTS + OUTPUTS if end == "" else 2 * INPUTS
    deviation = FACTORS[activation] * np.sqrt(2 / units)
    radius = FACTORS[activation] * np.sqrt(6 / units)
    shape = (jax.random.key(0), (INPUTS, OUTPUTS), jnp.float32)
    normal = initializer(f"{activation}_normal{end}")(*shape)
    uniform = initializer(f"{activation}_uniform{end}")(*shape)
    assert float(normal.std()) == pytest.approx(deviation, rel=0.01)
    assert float(jnp.abs(uniform).max()) == pytest.approx(radius, rel=0.001)
    assert float(uniform.std()) == pytest.approx(radius / np.sqrt(3), rel=0.01)


def test_glorot_is_the_row_of_the_logistic_function():
    shape = (jax.random.key(0), (30, 20), jnp.float32)
    for drawn in ("normal", "uniform"):
        glorot, logistic = (initializer(f"{name}_{drawn}") for name in ("glorot", "logistic"))
        np.testing.assert_array_equal(glorot(*shape), logistic(*shape))
