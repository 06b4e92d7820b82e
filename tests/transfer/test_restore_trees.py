"""Parts restored by name from one tree to another, with a report."""

import chex
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from jaxopt_cards import layers, transfer


def model(seed=0, units=(8, 6, 4)):
    return layers.MLP(5, 3, units=units, rngs=nnx.Rngs(seed))


def params_of(net):
    return nnx.to_pure_dict(nnx.state(net, nnx.Param))


def test_restore_takes_what_matches_and_tells_of_the_rest():
    new, trained = model(1), model(0)
    filled, report = transfer.restore(new, trained, "hidden[12]")
    assert isinstance(filled, layers.MLP)
    assert list(report.taken) == [
        "hidden1/bias",
        "hidden1/kernel",
        "hidden2/bias",
        "hidden2/kernel",
    ]
    assert set(report.skipped.values()) == {"not selected by the mask"}
    assert report.refused == {}
    before, after, source = params_of(new), params_of(filled), params_of(trained)
    for name in ("hidden1", "hidden2"):
        chex.assert_trees_all_equal(after[name], source[name])
    for name in ("hidden3", "logits"):
        chex.assert_trees_all_equal(after[name], before[name])


def test_restore_refuses_other_shapes_and_dtypes_and_never_adapts_them():
    new = params_of(model(1))
    saved = params_of(model(0, units=(8, 7, 4)))
    saved["hidden1"]["bias"] = saved["hidden1"]["bias"].astype("bfloat16")
    filled, report = transfer.restore(new, saved)
    assert report.refused == {
        "hidden1/bias": "expected float32[8], got bfloat16[8]; cast=True would cast it",
        "hidden2/bias": "expected float32[6], got float32[7]",
        "hidden2/kernel": "expected float32[8, 6], got float32[8, 7]",
        "hidden3/kernel": "expected float32[6, 4], got float32[7, 4]",
    }
    chex.assert_trees_all_equal_shapes_and_dtypes(filled, new)
    chex.assert_trees_all_equal(filled["hidden2"], new["hidden2"])
    assert "refused  hidden2/bias: expected float32[6], got float32[7]" in str(report)


def test_restore_renames():
    saved = {"layer1": params_of(model(0))["hidden1"], "other": np.zeros(3)}
    new = params_of(model(1))
    filled, report = transfer.restore(new, saved, "hidden", rename={"^hidden": "layer"})
    assert list(report.taken) == ["hidden1/bias", "hidden1/kernel"]
    assert report.skipped["hidden2/bias"] == "nothing was saved under layer2/bias"
    chex.assert_trees_all_equal(filled["hidden1"], saved["layer1"])


def test_renamings_apply_in_turn_and_each_must_match():
    saved = {"first": {"kernel": np.ones(2)}}
    params = {"hidden1": {"kernel": np.zeros(2)}}
    chained = {"^hidden1": "layer", "^layer": "first"}
    filled, report = transfer.restore(params, saved, rename=chained)
    np.testing.assert_array_equal(filled["hidden1"]["kernel"], 1)
    assert str(report) == "taken    hidden1/kernel from first/kernel"
    with pytest.raises(ValueError, match=r"rename has 'hiddn', which matches none of the paths\n"):
        transfer.restore(params, saved, rename={"hiddn": "first"})
    with pytest.raises(ValueError, match="rename must map patterns to replacements, got 'first'"):
        transfer.restore(params, saved, rename="first")


def test_restore_raises_where_nothing_was_taken():
    with pytest.raises(
        ValueError, match=r"restore: the pattern 'conv' matches none of the paths\n  hid"
    ):
        transfer.restore(model(1), model(0), "conv")
    with pytest.raises(ValueError, match=r"(?s)nothing was restored.*The saved paths are\n  w"):
        transfer.restore(model(1), {"w": np.zeros(3)}, "hidden")


def test_restore_reads_what_orbax_wrote(tmp_path):
    trained = model(0)
    with ocp.StandardCheckpointer() as saver:
        saver.save(tmp_path / "model", params_of(trained))
    with ocp.StandardCheckpointer() as saver:
        saved = saver.restore(tmp_path / "model")
    filled, report = transfer.restore(model(1), saved)
    assert not report.skipped
    chex.assert_trees_all_equal(params_of(filled), params_of(trained))
