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
    with refused("^scale_by_learning_rate: learning_rate must be a number or a schedule"):
        jc.scale_by_learning_rate(None)
    assert step(optax.scale_by_learning_rate(None), TWO)["w"][0] == 1.0


def plain_lookahead():
    jc.lookahead(jc.sgd(0.1)).init(TWO)
    with pytest.raises((TypeError, AttributeError)):
        optax.lookahead(optax.sgd(0.1), 5, 0.5).init(TWO)


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


def only_floats_are_trained():
    start = {"w": jnp.array([3, 4])}
    with refused("^adam: at w the parameter must be of floating point, got int32"):
        jc.adam(0.1).init(start)
    updates = step(optax.adam(0.1), start, {"w": jnp.ones(2)})
    with jax.numpy_dtype_promotion("standard"):
        assert optax.apply_updates(start, updates)["w"].dtype == jnp.int32


def same_shapes():
    start, grads = {"w": jnp.ones((2, 3))}, {"w": jnp.ones(3)}
    with refused(r"^adam: at w the gradient has shape \(3,\), the parameter \(2, 3\)"):
        step(jc.adam(0.1), start, grads)
    assert step(optax.adam(0.1), start, grads)["w"].shape == (2, 3)


DIFFERENCES = {
    "`adadelta` has a learning rate of 1 by default": adadelta_has_a_rate,
    "`scale_by_learning_rate` does not take `None`": no_rate_of_none,
    "`lookahead` takes and returns plain parameters": plain_lookahead,
    "A number outside its range is an error": ranges,
    "`eps=0` is an error unless `eps_root` is above zero": eps_of_zero,
    "A hyperparameter is one real number": one_number,
    "Masks hold booleans, or the numbers 0 and 1": masks_of_bools,
    "A text as mask is a regular expression over paths": masks_by_pattern,
    "`exponential_decay` needs a positive number of steps": schedules_have_a_length,
    "Momentum may follow a schedule": momentum_by_schedule,
    "State is float32 at least": wide_states,
    "Parameters of integers are not trained": only_floats_are_trained,
    "Gradients have the shapes of their parameters": same_shapes,
}
