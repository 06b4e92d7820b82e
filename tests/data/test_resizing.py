"""Images of another size."""

import numpy as np
import pytest

from jaxopt_cards import data

RAMP = np.linspace(0, 1, 16, dtype="f4").reshape(1, 4, 4)
Y = np.zeros(1, int)


def test_doubles_by_linear_interpolation():
    row = np.broadcast_to(np.array([0.0, 1.0], "f4"), (1, 2, 2))
    new = data.resize(data.Examples(row, Y), (2, 4)).x
    np.testing.assert_allclose(new[0], [[0, 0.25, 0.75, 1]] * 2, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 16), (1, 4, 4), (1, 4, 4, 1)])
def test_dimensions_dtype_and_range_stay(shape):
    new = data.resize(data.Examples(RAMP.reshape(shape), Y), (6, 8))
    assert new.x.ndim == len(shape)
    assert new.x.size == 48
    assert new.x.dtype == np.float32
    assert new.x.min() >= 0
    assert new.x.max() <= 1
    assert new.y is Y


@pytest.mark.parametrize(
    ("x", "shape", "message"),
    [
        (RAMP, (3,), "shape must be"),
        (RAMP, (3, 0), "each of shape must"),
        (np.zeros((2, 10), "f4"), (3, 3), "examples must have x of shape"),
        (np.zeros((2, 3, 3), int), (3, 3), "examples must have x of floating point"),
    ],
)
def test_bad_arguments(x, shape, message):
    with pytest.raises(ValueError, match=f"resize: {message}"):
        data.resize(data.Examples(x, Y), shape)
