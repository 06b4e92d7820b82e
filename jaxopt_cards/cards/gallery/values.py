"""Pictures of values and vectors before and after a technique."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Rectangle

import jaxopt_cards as jc
from jaxopt_cards import layers, pictures, transfer
from jaxopt_cards.cards import schedule_names
from jaxopt_cards.cards.gallery.drawing import draws, plane, vectors
from jaxopt_cards.pictures.theme import colour, ink, line

_OURS = ("constant", "exponential_decay", "momentum_warmup", "piecewise_constant", "power_decay")
_WEIGHTS = np.linspace(-2, 2, 801)


@draws(*_OURS)
def _schedule(ax: Axes, name: str) -> str:
    (text, curve), *_ = schedule_names.built([name]).items()
    label = "momentum" if name == "momentum_warmup" else "learning rate"
    pictures.schedules(ax, {text: curve}, schedule_names.STEPS, label=label)
    ax.set_ylim(bottom=0)
    return text


@draws("clip", "clip_by_norm", "clip_by_global_norm", "clip_by_block_rms")
def _clipping(ax: Axes, name: str) -> str:
    gradients = {"a": jnp.array([1.6, 1.1]), "b": jnp.array([-0.5, 0.6])}
    updates = _updates(getattr(jc, name)(1.0), gradients, gradients)
    _before_and_after(ax, gradients, updates)
    if name == "clip":
        ax.add_patch(Rectangle((-1, -1), 2, 2, **_bound(ax)))
    elif name != "clip_by_global_norm":  # which bounds both together
        radius = 2**0.5 if name == "clip_by_block_rms" else 1.0
        ax.add_patch(Circle((0, 0), radius, **_bound(ax)))
    return f"{name}:1.0 of two arrays"


@draws("adaptive_grad_clip")
def _adaptive(ax: Axes, name: str) -> str:
    gradients = {"weights of norm 5": jnp.array([1.6, 1.1]), "of norm 1": jnp.array([-1.2, 1.5])}
    weights = {"weights of norm 5": jnp.array([3.0, 4.0]), "of norm 1": jnp.array([0.6, 0.8])}
    _before_and_after(ax, gradients, _updates(jc.adaptive_grad_clip(0.25), gradients, weights))
    return "to a quarter of the norm of the weights"


@draws("max_norm")
def _max_norm(ax: Axes, name: str) -> str:
    angles = np.linspace(0, 2 * np.pi, 9)[:-1]
    lengths = np.array([0.6, 1.8, 1.2, 0.8, 1.9, 0.5, 1.4, 1.7])
    units = np.stack([np.cos(angles), np.sin(angles)]) * lengths  # a column is a unit
    weights = jnp.asarray(units, float)
    after = weights + _updates(jc.max_norm(1.0), jnp.zeros_like(weights), weights)
    ax.add_patch(Circle((0, 0), 1.0, **_bound(ax)))
    vectors(ax, list(units.T), "before", 0, 0.006)
    vectors(ax, list(np.asarray(after).T), "after", 1, 0.012)
    plane(ax, 2.0)
    ax.legend(loc="upper right")
    return "weights of eight units, max_norm:1.0"


def _before_and_after(ax: Axes, before: dict[str, Any], after: dict[str, Any]) -> None:
    vectors(ax, list(before.values()), "gradient", 0, 0.006)
    vectors(ax, list(after.values()), "update", 1, 0.012)
    for name, end in before.items():
        x, y = (float(part) * 1.07 for part in end)
        ax.text(x, y, name, ha="center", va="bottom", fontsize=8)
    plane(ax, 2.2)
    ax.legend(loc="lower right")


def _bound(ax: Axes) -> dict[str, Any]:
    return {"fill": False, "edgecolor": ink(ax), "linestyle": ":", "linewidth": 0.9}


@draws("add_decayed_weights", "add_l1_decay", "add_elastic_net")
def _decay(ax: Axes, name: str) -> str:
    arguments = {"add_elastic_net": (0.1, 0.1)}.get(name, (0.1,))
    weights = jnp.asarray(_WEIGHTS, float)
    added = _updates(getattr(jc, name)(*arguments), jnp.zeros_like(weights), weights)
    _curve(ax, {name: added}, "weight", "added to the update")
    return f"{name}:{','.join(map(str, arguments))}"


@draws("add_l2_sp")
def _l2_sp(ax: Axes, name: str) -> str:
    weights = {part: jnp.asarray(_WEIGHTS, float) for part in ("a", "b")}
    tx = jc.add_l2_sp({"a": jnp.ones(len(_WEIGHTS))}, alpha=0.1, beta=0.05)
    added = _updates(tx, jax.tree.map(jnp.zeros_like, weights), weights)
    curves = {"pretrained to 1": added["a"], "new": added["b"]}
    _curve(ax, curves, "weight", "added to the update")
    ax.plot([1], [0], "o", color=colour(ax, 0), markersize=6)
    return "decay towards pretrained weights, or to zero"


@draws("l1", "l2", "elastic_net")
def _penalty(ax: Axes, name: str) -> str:
    arguments = (0.1, 0.1) if name == "elastic_net" else (0.1,)
    penalty = getattr(layers, name)(*arguments)
    values = jax.vmap(lambda weight: penalty({"kernel": weight}))(jnp.asarray(_WEIGHTS, float))
    _curve(ax, {name: values}, "weight", "added to the loss")
    return f"{name}:{','.join(map(str, arguments))}"


@draws("proximal_l1", "magnitude_prune")
def _threshold(ax: Axes, name: str) -> str:
    tx = jc.proximal_l1(0.5) if name == "proximal_l1" else jc.magnitude_prune(threshold=0.5)
    weights = jnp.asarray(_WEIGHTS, float)
    after = weights + _updates(tx, jnp.zeros_like(weights), weights)
    _curve(ax, {name: after}, "weight after the step", f"weight after {name}")
    ax.plot(_WEIGHTS, _WEIGHTS, ":", color=ink(ax), linewidth=0.8)
    return "exact zeros below 0.5"


@draws("scale_by_learning_rate")
def _rate(ax: Axes, name: str) -> str:
    gradients = jnp.asarray(_WEIGHTS, float)
    updates = {
        f"rate {rate}": _updates(jc.scale_by_learning_rate(rate), gradients, gradients)
        for rate in (0.1, 0.5)
    }
    _curve(ax, updates, "gradient", "update")
    return "minus the rate times the gradient"


@draws("rrelu", "RReLU")
def _slopes(ax: Axes, name: str) -> str:
    x = jnp.asarray(np.linspace(-4, 2, 400), float)
    drawn = (
        layers.RReLU(rngs=nnx.Rngs(0))(x) if name == "RReLU" else layers.rrelu(x, jax.random.key(0))
    )
    ax.plot(x, drawn, ".", markersize=3, color=colour(ax, 1), label="training")
    ax.plot(x, layers.rrelu(x), label="evaluation", **line(ax, 0))
    ax.set(xlabel="input", ylabel="output")
    ax.grid(alpha=0.15)
    ax.legend(loc="upper left")
    return "random slopes for negative inputs"


@draws("logistic", "tanh", "relu", "leaky_relu", "prelu", "elu", "selu")
def _activation(ax: Axes, name: str) -> str:
    x = jnp.asarray(np.linspace(-4, 3, 281), float)
    arguments = {"leaky_relu": (0.2,), "prelu": (0.25,)}.get(name, ())

    def function(x: jax.Array) -> jax.Array:
        return getattr(layers, name)(x, *arguments)

    ax.plot(x, function(x), label="output", **line(ax, 0))
    ax.plot(x, jax.vmap(jax.grad(function))(x), label="slope", **line(ax, 1))
    ax.set(xlabel="input", ylabel="output, slope")
    ax.grid(alpha=0.15)
    ax.legend(loc="upper left")
    return ":".join([name, *map(str, arguments)])


@draws("BatchNorm")
def _normalised(ax: Axes, name: str) -> str:
    z = 2 + 0.5 * jax.random.normal(jax.random.key(0), (1000, 1))
    y = layers.BatchNorm().layer(1, nnx.Rngs(0))(z)
    for index, (label, values) in enumerate({"inputs": z, "outputs": y}.items()):
        counts, edges = np.histogram(np.asarray(values), bins=40, range=(-4, 4))
        look = line(ax, index) | {"drawstyle": "steps-mid"}
        ax.plot((edges[:-1] + edges[1:]) / 2, counts, label=label, **look)
    ax.set(xlabel="value of one unit", ylabel="examples of the batch")
    ax.legend(loc="upper left")
    return "before training: mean 0, deviation 1"


@draws("margin_ranking_loss")
def _margin(ax: Axes, name: str) -> str:
    difference = jnp.asarray(np.linspace(-2, 3, 201), float)
    loss = transfer.margin_ranking_loss(difference, jnp.zeros_like(difference))
    ax.plot(difference, loss, **line(ax, 0))
    ax.axvline(1, linestyle=":", color=ink(ax), linewidth=0.9)
    ax.text(1.05, 2.5, "margin", fontsize=8)
    ax.set(xlabel="good score minus bad score", ylabel="loss")
    ax.grid(alpha=0.15)
    return "zero loss beyond the margin"


def _curve(ax: Axes, curves: dict[str, Any], x: str, y: str) -> None:
    for index, (name, values) in enumerate(curves.items()):
        ax.plot(_WEIGHTS, np.asarray(values), label=name, **line(ax, index))
    if len(curves) > 1:
        ax.legend(loc="best")
    ax.axhline(0, color=ink(ax), linewidth=0.4)
    ax.axvline(0, color=ink(ax), linewidth=0.4)
    ax.set(xlabel=x, ylabel=y)


def _updates(tx: Any, gradients: Any, params: Any) -> Any:
    return tx.update(gradients, tx.init(params), params)[0]
