"""The chain of the README, everywhere that JAX users put one."""

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from flax import linen, nnx
from flax.training.train_state import TrainState

import jaxopt_cards as jc

SCHEDULE = jc.schedules.exponential_decay(0.1, transition_steps=20, decay_rate=0.5)
INPUTS = jax.random.normal(jax.random.key(0), (32, 3))
LABELS = INPUTS @ jnp.array([[1.0], [-2.0], [0.5]])


def recipe(learning_rate=SCHEDULE):
    return jc.chain(
        jc.clip_by_global_norm(1.0),
        jc.scale_by_adam(),
        jc.add_decayed_weights(1e-4),
        jc.scale_by_learning_rate(learning_rate),
    )


def loss(params):
    return jnp.mean((INPUTS @ params["kernel"] + params["bias"][None] - LABELS) ** 2)


def start():
    return {"kernel": jnp.zeros((3, 1)), "bias": jnp.zeros(1)}


def step(tx, params, state):
    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return jc.apply_updates(params, updates), state


def trained(tx, params, steps=100):
    """In a scan."""
    carry, _ = jax.lax.scan(
        lambda carry, _: (step(tx, *carry), None), (params, tx.init(params)), None, length=steps
    )
    return carry[0]


def test_in_jit_and_in_scan():
    tx = recipe()
    compiled = jax.jit(lambda params, state: step(tx, params, state), donate_argnums=(0, 1))
    params = start()
    state = tx.init(params)
    for _ in range(100):
        params, state = compiled(params, state)
    assert loss(params) < 0.01 * loss(start())
    chex.assert_trees_all_close(params, trained(tx, start()), rtol=1e-4, atol=1e-5)


def test_under_vmap_over_its_learning_rate():
    rates = jnp.array([0.01, 0.1])
    together = jax.jit(jax.vmap(lambda rate: trained(recipe(rate), start())))(rates)
    for index, rate in enumerate((0.01, 0.1)):
        one = jax.tree.map(lambda leaf, i=index: leaf[i], together)
        chex.assert_trees_all_close(one, trained(recipe(rate), start()), rtol=1e-4, atol=1e-5)


def test_mixes_with_optax():
    mixed = optax.chain(
        optax.clip_by_global_norm(1.0),
        jc.scale_by_adam(),
        optax.add_decayed_weights(1e-4),
        jc.scale_by_learning_rate(0.1),
    )
    chex.assert_trees_all_close(
        trained(mixed, start()), trained(recipe(0.1), start()), rtol=1e-5, atol=1e-6
    )


def test_in_an_nnx_optimizer():
    model = nnx.Linear(3, 1, kernel_init=nnx.initializers.zeros, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, recipe(), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.mean((model(INPUTS) - LABELS) ** 2))(model)
        optimizer.update(model, grads)

    with jax.numpy_rank_promotion("allow"):  # nnx.Linear adds its bias by broadcasting
        for _ in range(100):
            train_step(model, optimizer)
    expected = trained(recipe(), start())
    chex.assert_trees_all_close(model.kernel[...], expected["kernel"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pattern", ["kernel$", "^kernel"])
def test_masks_see_the_same_paths_in_an_nnx_optimizer_as_anywhere(pattern):
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    tx = jc.adamw(0.1, weight_decay=0.5, mask=lambda params: jc.select(params, pattern))
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    kernel, model.bias[...] = model.kernel[...], jnp.ones(1)
    optimizer.update(model, jax.tree.map(jnp.zeros_like, nnx.state(model, nnx.Param)))
    chex.assert_trees_all_close(model.kernel[...], 0.95 * kernel, rtol=1e-6)
    chex.assert_trees_all_equal(model.bias[...], jnp.ones(1))


def test_in_linens_train_state():
    model = linen.Dense(1, kernel_init=linen.initializers.zeros)
    with jax.numpy_rank_promotion("allow"):
        params = model.init(jax.random.key(0), INPUTS)["params"]
        state = TrainState.create(apply_fn=model.apply, params=params, tx=recipe())

        @jax.jit
        def train_step(state):
            def objective(params):
                return jnp.mean((state.apply_fn({"params": params}, INPUTS) - LABELS) ** 2)

            return state.apply_gradients(grads=jax.grad(objective)(state.params))

        for _ in range(100):
            state = train_step(state)
    chex.assert_trees_all_close(state.params, trained(recipe(), start()), rtol=1e-4, atol=1e-5)
