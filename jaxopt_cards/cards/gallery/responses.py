"""Pictures of the updates for a series of gradients."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes

import jaxopt_cards as jc
from jaxopt_cards.cards.gallery.drawing import draws, walked
from jaxopt_cards.cards.index import entries
from jaxopt_cards.pictures.theme import ink, line

# Ones with a single gradient of ten, then tenths.
_GRADIENTS = np.concatenate([np.ones(30), [10.0], np.ones(29), np.full(40, 0.1)])
# Shorter memories than the defaults, to show their effect in a hundred steps.
_MEMORY = {"b1": 0.8, "b2": 0.9}
_SCALINGS = [name for name, known in entries().items() if known.family == "Adaptive scaling"]


@draws(*_SCALINGS)
def _scaling(ax: Axes, name: str) -> str:
    make = getattr(jc, name)
    known = inspect.signature(make).parameters
    memory = {argument: value for argument, value in _MEMORY.items() if argument in known}
    updates = _series(make(**memory), _GRADIENTS)
    ax.plot(_GRADIENTS, label="gradient", drawstyle="steps-mid", color=ink(ax), linewidth=0.8)
    ax.plot(updates, label="update", **line(ax, 0))
    ax.set(xlabel="step", yscale="log")
    ax.legend(loc="lower left")
    return ", ".join([name, *(f"{argument}={value}" for argument, value in memory.items())])


@draws("trace")
def _momentum(ax: Axes, name: str) -> str:
    gradients = np.concatenate([np.zeros(5), np.ones(25), np.zeros(30)])
    ax.plot(gradients, label="gradient", drawstyle="steps-mid", color=ink(ax), linewidth=0.8)
    for index, nesterov in enumerate((False, True)):
        label = "update, Nesterov" if nesterov else "update"
        updates = _series(jc.trace(0.9, nesterov), gradients)
        ax.plot(updates, label=label, **line(ax, index))
    ax.set(xlabel="step")
    ax.legend(loc="upper right")
    return "trace(0.9): up to ten times the gradient"


@draws("ftrl", "scale_by_ftrl")
def _zeros(ax: Axes, name: str) -> str:
    noise, least = jax.random.normal(jax.random.key(1), (100, 2)), jnp.array([1.0, 0.0])
    txs = {name: getattr(jc, name)(0.5, l1_regularization_strength=12.0)}
    if name == "ftrl":
        txs["adagrad"] = jc.adagrad(0.5)
    for number, (label, tx) in enumerate(txs.items()):
        params, _ = walked(tx, jnp.zeros(2), lambda params, _, noise: params - least + noise, noise)
        signal, random = params.T
        ax.plot(signal, label=f"{label}, minimum at 1", **line(ax, 2 * number))
        ax.plot(random, label=f"{label}, minimum at 0", **line(ax, 2 * number + 1))
    ax.set(xlabel="step", ylabel="weight")
    ax.legend(loc="best")
    return "noisy gradients: ftrl gives an exact zero"


def _series(tx: Any, gradients: np.ndarray) -> np.ndarray:
    """The update of one parameter at each step."""

    def step(state: Any, gradient: jax.Array) -> Any:
        updates, state = tx.update(gradient[None], state, jnp.ones(1))
        return state, updates[0]

    run = jax.jit(lambda given: jax.lax.scan(step, tx.init(jnp.ones(1)), given)[1])
    return np.asarray(run(jnp.asarray(gradients, float)))
