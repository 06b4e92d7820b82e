"""The names that Optax has too, found by looking, and values for each of their arguments."""

import inspect
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_cards as jc
from jaxopt_cards import schedules

OURS = {name: getattr(module, name) for module in (jc, schedules) for name in module.__all__}
PLACES = (optax, optax.contrib)


def _theirs(name):
    return next((getattr(place, name) for place in PLACES if hasattr(place, name)), None)


# Functions of ours with a name of Optax's; `schedules` is a module in both. `lbfgs` calls Optax's,
# and needs a function to search along: tests/test_optimizers.py compares it.
SHARED = {
    name: (ours, _theirs(name))
    for name, ours in OURS.items()
    if inspect.isfunction(ours) and _theirs(name) not in (None, ours) and name != "lbfgs"
}
SCHEDULES = sorted({"exponential_decay"} & SHARED.keys())
TRANSFORMATIONS = sorted(SHARED.keys() - {*SCHEDULES, "lookahead"})
OPTIMIZERS = sorted(set(jc.optimizers.by_name()) & SHARED.keys())

REQUIRED = {
    **dict.fromkeys(["learning_rate", "decay", "clipping"], 0.1),
    **dict.fromkeys(["max_delta", "max_norm", "threshold"], 0.5),
}


# Optax's default rate walks uphill; and the square root of a variance near zero is noise.
SETTINGS = {"adadelta": {"learning_rate": 0.1}, "scale_by_stddev": {"eps": 0.1}}


def falling(count):
    return 0.1 / (1.0 + jnp.asarray(count, jnp.float32))


def matrices(tree):
    return jax.tree.map(lambda leaf: jnp.ndim(leaf) > 1, tree)


def zero_and_one(tree):
    return jax.tree.map(lambda leaf: np.int32(jnp.ndim(leaf) > 1), tree)


# Other values of each argument, of every kind that both libraries take.
KINDS = [0.05, np.float32(0.05), np.array(0.05, np.float32), jnp.float32(0.05)]
DECAYS = [0, jnp.full((1,), 0.5)]
STARTS = [0.5, 1]
DTYPES = ["bfloat16", jnp.float32]
BOUNDS = [2, 0.01, float("inf"), np.full((1,), 0.01, np.float32)]
MASKS = [matrices, zero_and_one, True, 1, {"hidden1": {"kernel": np.bool_(True)}, "scale": 0}]
VALUES = {
    "learning_rate": [0, *KINDS[2:], jnp.full((1,), 0.05), falling],
    "weight_decay": [0, -0.1, KINDS[1], jnp.full((1,), 0.05), falling],
    **dict.fromkeys(["b1", "b2", "rho", "decay"], DECAYS),
    "momentum": [0.5, 0, 1, jnp.float32(0.5)],
    "eps": [0.5, jnp.full((1,), 0.5)],
    "eps_root": [0.5],
    **dict.fromkeys(["initial_scale", "initial_accumulator_value"], STARTS),
    **dict.fromkeys(["mu_dtype", "accumulator_dtype"], DTYPES),
    **dict.fromkeys(["mask", "weight_decay_mask"], MASKS),
    **dict.fromkeys(["max_delta", "max_norm", "clipping"], BOUNDS),
    "axis": [0, -1],
    "factor": [0.5],
    "patience": [2],
    "rtol": [0.5],
    "atol": [0.5],
    "cooldown": [1],
    "accumulation_size": [2],
    "min_scale": [0.5],
}
THRESHOLDS = {"clip_by_block_rms": BOUNDS, "radam": [4, 6.0, float("inf")]}
THRESHOLDS["scale_by_radam"] = THRESHOLDS["radam"]


def required(name):
    """What must be given to both, and what makes them comparable."""
    parameters = inspect.signature(SHARED[name][0]).parameters.values()
    given = {p.name: REQUIRED[p.name] for p in parameters if p.default is p.empty}
    return given | SETTINGS.get(name, {})


def variants():
    """`(name, arguments)`: each shared transformation, as it is and with each other value."""
    for name in TRANSFORMATIONS:
        yield name, {}
        for argument, parameter in inspect.signature(SHARED[name][1]).parameters.items():
            if isinstance(parameter.default, bool):
                values = [not parameter.default]
            else:
                values = THRESHOLDS.get(name) if argument == "threshold" else VALUES.get(argument)
                values = values or _others(parameter)
            for value in values:
                yield name, {argument: value}


def _others(parameter):
    """Values of an argument without a list of its own: the other words, or half of the number."""
    words = [word for word in get_args(parameter.annotation) if isinstance(word, str)]
    return [word for word in words if word != parameter.default] or [parameter.default / 2]


def both(name, arguments):
    """The transformation of ours and that of Optax."""
    return tuple(make(**required(name) | arguments) for make in SHARED[name])


def params(dtype="float32"):
    rng = np.random.default_rng(0)
    return {
        "hidden1": {"kernel": jnp.asarray(rng.normal(size=(3, 4)), dtype)},
        "scale": jnp.asarray(rng.normal(size=(4,)), dtype),
    }


def walked(tx, start, steps=2, compile=lambda update: update):
    """The parameters and the state after so many steps whose gradients change."""
    tx = optax.with_extra_args_support(tx)
    theta, state, update = start, tx.init(start), compile(tx.update)
    # As in a user's process; the tests' own are stricter than Optax bears.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for step in range(steps):
            grads = jax.tree.map(partial(jnp.multiply, (-1) ** step * (1.0 + step)), start)
            updates, state = update(grads, state, theta, value=jnp.float32(1.0))
            theta = optax.apply_updates(theta, updates)
    return theta, state
