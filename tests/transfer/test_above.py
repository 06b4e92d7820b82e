"""Everything above a cached layer is trained as if the layers below were frozen."""

import chex
import numpy as np
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from tests.training.blobs import TRAIN, VALID

pytestmark = pytest.mark.usefixtures("quick_compilation")

ADAM = jc.adam(0.01)


def model(**kwargs):
    return layers.MLP(6, 3, units=(8, 7, 6, 5), rngs=nnx.Rngs(0), **kwargs)


def settings(**kwargs):
    shared = {"train": TRAIN, "valid": VALID, "batch_size": 20, "epochs": 4, "progress": False}
    return shared | kwargs


def variables_of(net):
    return nnx.to_pure_dict(nnx.state(net, (nnx.Param, nnx.BatchStat)))


def alike(one, other):
    chex.assert_trees_all_close(variables_of(one), variables_of(other), rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("net", [{}, {"batch_norm": True, "activation": nnx.PReLU}])
def test_equals_fit_with_the_lower_layers_frozen(net):
    whole = training.fit(model(**net), ADAM, trainable="hidden[34]|logits", **settings())
    above = transfer.fit_above(model(**net), ADAM, upto=2, **settings())
    np.testing.assert_allclose(above.history.valid_loss, whole.history.valid_loss, rtol=1e-3)
    assert above.best_epoch == whole.best_epoch
    alike(above.model, whole.model)
    alike(above.last, whole.last)
    chex.assert_trees_all_equal_shapes_and_dtypes(above.opt_state, whole.opt_state)
    before, after = variables_of(model(**net)), variables_of(above.model)
    for name in before:
        frozen = name.startswith(("hidden1", "hidden2"))
        compare = chex.assert_trees_all_equal if frozen else chex.assert_trees_all_equal_shapes
        compare(after[name], before[name])
    measured = training.evaluate(above.model, *VALID)["loss"]
    np.testing.assert_allclose(measured, above.history.valid_loss.min(), rtol=1e-4)


def test_goes_on_with_the_whole_network():
    first = transfer.fit_above(model(), ADAM, 2, **settings())
    again = transfer.fit_above(first.last, ADAM, 2, opt_state=first.opt_state, **settings())
    whole = training.fit(
        first.last, ADAM, opt_state=first.opt_state, trainable="hidden[34]|logits", **settings()
    )
    alike(again.last, whole.last)


def test_trains_a_part_of_what_is_above():
    whole = training.fit(model(), ADAM, trainable="hidden4|logits", **settings())
    alike(
        transfer.fit_above(model(), ADAM, 2, trainable="4|logits", **settings()).model, whole.model
    )


def test_above_all_hidden_layers_is_the_head(tmp_path):
    weight = np.linspace(0.5, 2.0, len(TRAIN.y))
    weighted = settings(train=(*TRAIN, weight), evaluate_every=5)
    whole = training.fit(model(), ADAM, trainable="logits", **weighted)
    above = transfer.fit_above(model(), ADAM, 4, directory=tmp_path, **weighted)
    alike(above.model, whole.model)
    assert above.best_step == whole.best_step
    assert len(list(tmp_path.glob("features-*"))) >= 2


def test_the_part_above_is_a_network():
    net = model(batch_norm=True)
    net.eval()
    part = net.above(2)
    np.testing.assert_allclose(part(net.features(TRAIN.x, 2)), net(TRAIN.x), rtol=1e-6)
    assert not hasattr(part, "hidden2_norm")
    assert hasattr(net, "hidden2_norm")
    with pytest.raises(ValueError, match="upto must be at most 4, got 5"):
        net.above(5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"upto": 5}, "upto must be at most 4, got 5"),
        ({"augment": lambda key, x: x}, "augment must be None here"),
        ({"model": nnx.Linear(6, 3, rngs=nnx.Rngs(0))}, r"model must have a method above\(upto\)"),
        ({"train": TRAIN.x}, r"train must be \(x, y\) or \(x, y, weight\), got ndarray"),
        ({"trainable": "hidden1"}, "trainable='hidden1'"),
    ],
)
def test_errors(change, told):
    arguments = {"model": model(), "tx": ADAM, "upto": 2, **settings()} | change
    with pytest.raises(ValueError, match=f"^fit_above: {told}"):
        transfer.fit_above(**arguments)
