"""Where gradients are measured, which parameters are evaluated, and what is refused."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers, training
from jaxopt_cards.training.checkpoints import Checkpoints
from tests.training.blobs import TRAIN, VALID

ADVERSARY = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
AHEAD = jc.scale_by_true_nesterov(0.05)
AVERAGED = jc.chain(jc.sgd(0.1), jc.polyak_average(0.5))
PRIVATE = optax.contrib.differentially_private_aggregate(1.0, 1.0, jax.random.key(0))
LOOKAHEAD = jc.lookahead(jc.sgd(0.2), 3)


def sam(**kwargs):
    return optax.contrib.sam(optax.sgd(0.1), ADVERSARY, **kwargs)


def average(params, state):
    return optax.tree.get(state, "average")


def model():
    return layers.MLP(6, 3, units=(8,), rngs=nnx.Rngs(0))


def fit(tx, **kwargs):
    settings = {"train": TRAIN, "valid": VALID, "batch_size": 150, "epochs": 4, "progress": False}
    return training.fit(model(), tx, **(settings | kwargs))


def fit_many(tx, **kwargs):
    settings = {"train": TRAIN, "valid": VALID, "batch_size": 150, "epochs": 4, "progress": False}
    return training.fit_many([model()], tx, **(settings | kwargs))[0]


def fit_online(tx, **kwargs):
    return training.fit_online(model(), tx, [TRAIN] * 4, **kwargs)


def params_of(net):
    return nnx.to_pure_dict(nnx.state(net, nnx.Param))


def loss(params, _=None):
    net = model()
    nnx.update(net, params)
    return optax.softmax_cross_entropy_with_integer_labels(net(TRAIN.x), TRAIN.y).mean()


def by_hand(step):
    """The parameters after four steps of a function of parameters and state."""
    params, state = params_of(model()), None
    for _ in range(4):
        params, state = step(params, state)
    return params


def true_nesterov(params, momentum):
    momentum = momentum or jax.tree.map(jnp.zeros_like, params)
    point = jax.tree.map(lambda p, m: p + 0.9 * m, params, momentum)
    momentum = jax.tree.map(lambda m, g: 0.9 * m - 0.05 * g, momentum, jax.grad(loss)(point))
    return jax.tree.map(jnp.add, params, momentum), momentum


def sharpness_aware(params, _):
    grads = jax.grad(loss)(params)
    norm = optax.tree.norm(grads)
    point = jax.tree.map(lambda p, g: p + 0.05 * g / norm, params, grads)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(point)), None


@pytest.mark.parametrize("train", [fit, fit_many, fit_online], ids=lambda train: train.__name__)
@pytest.mark.parametrize(
    ("tx", "step"), [(AHEAD, true_nesterov), (sam(opaque_mode=True), sharpness_aware)]
)
def test_gradients_are_measured_elsewhere_where_the_method_wants_it(train, tx, step):
    trained = train(tx)
    chex.assert_trees_all_close(params_of(trained.model), by_hand(step), rtol=1e-4, atol=1e-5)


def test_a_plateau_scales_the_step_ahead_as_well():
    plateau = jc.reduce_on_plateau(patience=1, factor=0.5, rtol=1.0)  # halves in each epoch
    result = fit(AHEAD, plateau=plateau)
    factors = iter([1.0, 0.5, 0.25, 0.125])

    def step(params, momentum):
        momentum, factor = momentum or jax.tree.map(jnp.zeros_like, params), next(factors)
        point = jax.tree.map(lambda p, m: p + factor * 0.9 * m, params, momentum)
        grads = jax.grad(loss)(point)
        momentum = jax.tree.map(lambda m, g: 0.9 * m - 0.05 * g, momentum, grads)
        return jax.tree.map(lambda p, m: p + factor * m, params, momentum), momentum

    chex.assert_trees_all_close(params_of(result.last), by_hand(step), rtol=1e-4, atol=1e-5)


def test_sophia_is_given_the_loss():
    tx = optax.contrib.sophia(0.01)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        result = fit(tx)
        params = params_of(model())
        state = tx.init(params)
        for _ in range(4):
            updates, state = tx.update(jax.grad(loss)(params), state, params, obj_fn=loss)
            params = optax.apply_updates(params, updates)
    chex.assert_trees_all_close(params_of(result.last), params, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("tx", "told"),
    [
        (sam(), "tx must be sam.*opaque_mode=True"),
        (optax.lookahead(optax.sgd(0.1), 5, 0.5), "tx must take plain parameters.*jaxopt_cards.lo"),
        (PRIVATE, "tx must take the gradient of the batch"),
        (optax.MultiSteps(optax.lbfgs(), 2), "tx must not accumulate gradients in MultiSteps"),
        (jc.chain(jc.clip(1.0), optax.flatten(AHEAD)), "state ScaleByTrueNesterovState differ"),
        (
            optax.GradientTransformationExtraArgs(
                lambda params: (), lambda grads, state, params=None, *, hessian, **_: (grads, state)
            ),
            "tx needs an argument that a trainer does not give.*hessian",
        ),
    ],
)
@pytest.mark.parametrize("train", [fit, fit_many, fit_online], ids=lambda train: train.__name__)
def test_what_needs_another_loop_is_refused(train, tx, told):
    with pytest.raises(ValueError, match=f"(?s){train.__name__}: .*{told}"):
        train(tx)


def test_nesterov_point_of_codes_or_of_two_states_is_refused():
    params = {"w": jnp.ones(8)}
    coded = jc.compress_state(AHEAD, 8, min_size=1).init(params)
    with pytest.raises(ValueError, match="must be of floating point, got int8, as of compress_sta"):
        jc.nesterov_point(params, coded)
    with pytest.raises(ValueError, match=r"must hold one .* for each parameter, got several"):
        jc.nesterov_point(params, jc.chain(AHEAD, AHEAD).init(params))


def test_slow_weights_wants_a_state_of_lookahead():
    params = jnp.ones(2)
    with pytest.raises(ValueError, match="slow_weights: state must hold one LookaheadState, got 0"):
        jc.slow_weights(params, jc.sgd(0.1).init(params))
    slow = jc.slow_weights(params.astype("bfloat16"), LOOKAHEAD.init(params.astype("bfloat16")))
    assert slow.dtype == jnp.bfloat16


def schedule_free(params, state):
    return optax.contrib.schedule_free_eval_params(state, params)


@pytest.mark.parametrize(
    ("tx", "given", "chosen"),
    [
        (LOOKAHEAD, None, jc.slow_weights),
        (LOOKAHEAD, lambda params, state: params, lambda params, state: params),
        (AVERAGED, None, lambda params, state: params),
        (AVERAGED, average, average),
        (optax.contrib.schedule_free_sgd(0.1), None, schedule_free),
    ],
    ids=["lookahead", "lookahead's fast ones", "sgd", "average", "schedule_free"],
)
def test_what_is_evaluated_is_kept_and_returned(tx, given, chosen):
    with jax.numpy_dtype_promotion("standard"):  # in Optax's schedule_free
        result = fit(tx, evaluated=given, epochs=5)
        many = fit_many(tx, evaluated=given, epochs=5)
        stream = training.fit_online(model(), tx, [TRAIN] * 5, evaluated=given)
        assert result.history.valid_loss.min() == result.history.valid_loss[-1]
        expected = chosen(params_of(result.last), result.opt_state)
    for trained in (result, many, stream):
        chex.assert_trees_all_close(params_of(trained.model), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        training.evaluate(result.model, *VALID)["loss"], result.history.valid_loss[-1], rtol=1e-6
    )


def test_slow_weights_stop_the_run_and_are_the_best():
    """A rate at which the fast weights are worse than the slow ones."""
    slow = fit(jc.lookahead(jc.sgd(3.0), 5, 0.1), epochs=12, patience=3)
    loss = training.evaluate(slow.model, *VALID)["loss"]
    np.testing.assert_allclose(loss, slow.history.valid_loss.min(), rtol=1e-6)
    assert loss == pytest.approx(slow.history.valid_loss[slow.best_epoch - 1])


def test_a_resumed_lookahead_gives_the_same_bits(tmp_path):
    whole = fit(LOOKAHEAD, epochs=7)
    fit(LOOKAHEAD, epochs=4, checkpoints=Checkpoints(tmp_path, every=1))
    resumed = fit(LOOKAHEAD, epochs=7, checkpoints=Checkpoints(tmp_path, every=1))
    for one, other in ((resumed.model, whole.model), (resumed.last, whole.last)):
        chex.assert_trees_all_equal(params_of(one), params_of(other))
    np.testing.assert_array_equal(resumed.history.valid_loss, whole.history.valid_loss)


def test_another_function_is_another_run(tmp_path):
    fit(AVERAGED, epochs=2, checkpoints=tmp_path)
    with pytest.raises(ValueError, match="evaluated: another one"):
        fit(AVERAGED, epochs=3, checkpoints=tmp_path, evaluated=average)


@pytest.mark.parametrize(
    ("evaluated", "told"),
    [
        (3, "evaluated must be a function"),
        (lambda params, state: state, "evaluated must return a tree like the parameters"),
        (
            lambda params, state: jax.tree.map(lambda leaf: leaf[:1], params),
            "evaluated must return arrays of the parameters' shapes",
        ),
    ],
)
def test_evaluated_must_return_parameters(evaluated, told):
    with pytest.raises(ValueError, match=f"fit: {told}"):
        fit(AVERAGED, evaluated=evaluated)
