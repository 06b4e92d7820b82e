"""Where we differ from Optax on purpose: the rows of the guide's table, each with a proof.

The keys are the guide's words. A proof fails as soon as the difference is gone.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_cards as jc
from tests.contract.shared import params, walked

# Whose arguments or defaults are not those of Optax; the rows say why.
SIGNATURES = {"adadelta", "lookahead", "scale_by_learning_rate"}

# Where Optax squares complex numbers and not their size.
OF_COMPLEX = {"adadelta", "scale_by_adadelta"}

TWO = {"w": jnp.array([1.0, -2.0])}


def refused(match):
    return pytest.raises(ValueError, match=match)


def step(tx, start, grads=None):
    """The first updates."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return tx.update(start if grads is None else grads, tx.init(start), start)[0]


def adadelta_has_a_rate():
    assert (step(jc.adadelta(), TWO)["w"] * TWO["w"] < 0).all()
    assert (step(optax.adadelta(), TWO)["w"] * TWO["w"] > 0).all()  # uphill


def no_rate_of_none():
    for name in ("scale_by_learning_rate", "adam", "sgd"):
        with refused(f"^{name}: learning_rate must be a number or a schedule"):
            getattr(jc, name)(None)
    for make in (optax.scale_by_learning_rate, optax.sgd):
        assert step(make(None), TWO)["w"][0] != 0.0


def plain_lookahead():
    step(jc.lookahead(jc.sgd(0.1)), TWO)
    with pytest.raises(AttributeError):
        step(optax.lookahead(optax.sgd(0.1), 5, 0.5), TWO)


def ranges():
    for make, arguments in (
        ("adam", {"learning_rate": -0.1}),
        ("adam", {"learning_rate": 0.1, "b1": 1.5}),
        ("sgd", {"learning_rate": 0.1, "momentum": 2.0}),
        ("clip", {"max_delta": 0.0}),
        ("radam", {"learning_rate": 0.1, "threshold": 1.0}),
    ):
        getattr(optax, make)(**arguments)
        with refused(f"^{make}: .* must lie in"):
            getattr(jc, make)(**arguments)


def eps_of_zero():
    with refused(r"^adam: eps must lie in \(0, inf\)"):
        jc.adam(0.1, eps=0.0)
    zeros = {"w": jnp.zeros(2)}
    assert np.isnan(step(optax.adam(0.1, eps=0.0), zeros)["w"]).all()


def one_number():
    for value in (jnp.ones(2), True, 1j):
        optax.sgd(value)
        with refused("^sgd: learning_rate must be a number or a schedule"):
            jc.sgd(value)


def whole_numbers():
    for value in (2.5, 2.0, True):
        optax.contrib.reduce_on_plateau(patience=value)
        with refused("^reduce_on_plateau: patience must be a whole number >= 1"):
            jc.reduce_on_plateau(patience=value)


def masks_of_bools():
    mask = {"w": "no"}
    with refused("^add_decayed_weights: mask must be"):
        jc.add_decayed_weights(0.1, mask).init(TWO)
    assert step(optax.add_decayed_weights(0.1, mask), TWO)["w"][0] > 1.0


def masks_by_pattern():
    start = {"kernel": jnp.ones(2), "bias": jnp.ones(2)}
    assert step(jc.add_decayed_weights(0.1, "kernel"), start)["bias"][0] == 1.0
    assert step(optax.add_decayed_weights(0.1, "kernel"), start)["bias"][0] > 1.0


def schedules_have_a_length():
    with refused("^exponential_decay: transition_steps must lie in"):
        jc.schedules.exponential_decay(0.1, 0, 0.5)
    assert optax.exponential_decay(0.1, 0, 0.5)(10) == 0.1


def momentum_by_schedule():
    walked(jc.sgd(0.1, momentum=lambda count: 0.5), params())
    with pytest.raises(TypeError):
        walked(optax.sgd(0.1, momentum=lambda count: 0.5), params())


def wide_states():
    start = params("bfloat16")
    ours, theirs = (m.adam(0.1).init(start)[0].nu["scale"].dtype for m in (jc, optax))
    assert (ours, theirs) == (jnp.float32, jnp.bfloat16)


def arrays_do_not_widen():
    """Of a learning rate's dtype Optax and we say the same."""
    start = params("bfloat16")
    for make in (
        lambda module: module.adamw(0.1, weight_decay=jnp.float32(0.1)),
        lambda module: module.add_decayed_weights(lambda count: jnp.float32(0.1)),
        lambda module: module.clip(jnp.float32(0.1)),
    ):
        ours, theirs = (step(make(m), start)["scale"].dtype for m in (jc, optax))
        assert (ours, theirs) == (jnp.bfloat16, jnp.float32)


def sizes_of_complex():
    start = {"w": jnp.array([1j])}
    with jax.numpy_dtype_promotion("standard"):
        rules = [module.scale_by_adadelta() for module in (jc, optax)]
        ours, theirs = (tx.update(start, tx.init(start))[1].e_g["w"] for tx in rules)
    assert ours.real > 0 > theirs.real


def variance_is_not_negative():
    def updates(module):
        tx = module.scale_by_stddev(bias_correction=True)
        state = tx.init(jnp.zeros(1))
        for _ in range(12):
            update, state = tx.update(jnp.full(1, 3.3), state)
            yield float(update[0])

    assert np.isfinite(list(updates(jc))).all()
    with jax.numpy_dtype_promotion("standard"):
        assert np.isnan(list(updates(optax))).any()


def only_floats_are_trained():
    start = {"w": jnp.array([3, 4])}
    with refused("^adam: at w the parameter must be of floating point, got int32"):
        jc.adam(0.1).init(start)
    updates = step(optax.adam(0.1), start, {"w": jnp.ones(2)})
    with jax.numpy_dtype_promotion("standard"):
        assert optax.apply_updates(start, updates)["w"].dtype == jnp.int32
    # Beside floats, too; and stages without state that need no parameters do not look.
    beside = {**start, "x": jnp.ones(2)}
    with refused("^adam: at w the parameter is of int32, so it has no gradient; got float32"):
        step(jc.adam(0.1), beside, {"w": jnp.ones(2), "x": jnp.ones(2)})
    np.testing.assert_array_equal(step(jc.sgd(0.5), start, {"w": jnp.ones(2)})["w"], -0.5)


def nothing_passes():
    start = {"w": jnp.ones(2), "seen": jnp.array([3])}
    for absent in (None, np.zeros(1, jax.dtypes.float0)):
        grads = {"w": jnp.ones(2), "seen": absent}
        assert step(jc.adam(0.1), start, grads)["w"][0] < 0
        with pytest.raises((TypeError, ValueError)):
            step(optax.adam(0.1), start, grads)


def no_booleans():
    with refused("^adam: at w the gradient must be of floating point, got bool"):
        step(jc.adam(0.1), TWO, {"w": jnp.array([True, False])})
    step(optax.adam(0.1), TWO, {"w": jnp.array([True, False])})


def same_shapes():
    start, grads = {"w": jnp.ones((2, 3))}, {"w": jnp.ones(3)}
    with refused(r"^adam: at w the gradient has shape \(3,\), the parameter \(2, 3\)"):
        step(jc.adam(0.1), start, grads)
    assert step(optax.adam(0.1), start, grads)["w"].shape == (2, 3)
    # Optax's stages that do not need parameters do not look at them.
    with refused("^clip: the updates and params differ in structure"):
        step(jc.clip(1.0), start, {"v": jnp.ones(3)})
    step(optax.clip(1.0), start, {"v": jnp.ones(3)})


DIFFERENCES = {
    "`adadelta` has a learning rate of 1 by default": adadelta_has_a_rate,
    "A learning rate is never `None`": no_rate_of_none,
    "`lookahead` takes and returns plain parameters": plain_lookahead,
    "A number outside its range is an error": ranges,
    "`eps=0` is an error unless `eps_root` is above zero": eps_of_zero,
    "A hyperparameter is one real number": one_number,
    "A count is a whole number": whole_numbers,
    "Masks hold booleans, or the numbers 0 and 1": masks_of_bools,
    "A string as mask is a regular expression over paths": masks_by_pattern,
    "`exponential_decay` needs a positive number of steps": schedules_have_a_length,
    "Momentum may follow a schedule": momentum_by_schedule,
    "State is float32 at least": wide_states,
    "Arrays and schedules do not widen half precision": arrays_do_not_widen,
    "Adadelta's means of complex numbers are real": sizes_of_complex,
    "A variance is never negative": variance_is_not_negative,
    "Parameters of integers are not trained": only_floats_are_trained,
    "Gradients may be `None` or `float0`": nothing_passes,
    "Gradients are not booleans": no_booleans,
    "Gradients have the structure and shapes of their parameters": same_shapes,
}
