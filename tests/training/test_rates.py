"""The range of learning rates: one short run for each rate."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training
from tests.training.blobs import TRAIN, VALID


def rate_range(**kwargs):
    model = layers.MLP(6, 3, units=(8,), rngs=nnx.Rngs(0))
    settings = {"train": TRAIN, "valid": VALID, "progress": False, "points": 4, "batch_size": 30}
    return training.learning_rate_range(model, jc.sgd, **settings | kwargs)


def test_each_point_is_a_fit_at_that_rate():
    found = rate_range(low=1e-2, high=1.0, epochs=2)
    np.testing.assert_allclose(found.rates, [0.01, 0.0464, 0.2154, 1.0], rtol=1e-2)
    for rate, train_loss, valid_loss in zip(
        found.rates, found.train_loss, found.valid_loss, strict=True
    ):
        model = layers.MLP(6, 3, units=(8,), rngs=nnx.Rngs(0))
        alone = training.fit(
            model, jc.sgd(rate), train=TRAIN, valid=VALID, batch_size=30, epochs=2, progress=False
        )
        np.testing.assert_allclose(
            [train_loss, valid_loss], [column[-1] for column in alone.history[:2]], rtol=1e-3
        )
    assert found.best == found.rates[np.argmin(found.valid_loss)]


def test_rates_that_diverge_are_left_out_of_the_picture():
    found = rate_range(low=1e-2, high=1e38)
    assert np.isnan(found.valid_loss[-1])
    assert found.best < 1.0
    figure, axes = plt.subplots()
    assert found.plot(axes) is axes
    assert axes.get_xscale() == "log"
    plt.close(figure)
    with pytest.raises(FloatingPointError, match="finite at none of the rates"):
        rate_range(low=1e30, high=1e38)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 0.0}, r"learning_rate_range: low must lie in \(0, inf\), got 0.0"),
        ({"low": 2.0}, "high must be above low, 2.0, got 1.0"),
        ({"points": 1}, "points must be a whole number >= 2, got 1"),
    ],
)
def test_bad_arguments(settings, message):
    with pytest.raises(ValueError, match=message):
        rate_range(**settings)
