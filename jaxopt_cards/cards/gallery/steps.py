"""Pictures of wrappers and stopping rules over some steps."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import jaxopt_cards as jc
from jaxopt_cards import pictures, training
from jaxopt_cards.cards.gallery.drawing import box, draws, walked
from jaxopt_cards.pictures.theme import colour, ink, line

_PARAMETERS = 2**20


@draws("compress_state")
def _bytes(ax: Axes, name: str) -> str:
    makers = {"adam": jc.adam(0.1)}
    makers |= {f"{bits} bits": jc.compress_state(jc.adam(0.1), bits=bits) for bits in (16, 8)}
    params = jax.ShapeDtypeStruct((_PARAMETERS,), jnp.float32)
    sizes = {label: _size(jax.eval_shape(tx.init, params)) for label, tx in makers.items()}
    _bars(ax, sizes, "bytes of state for each parameter")
    return "the state of Adam"


def _size(state: Any) -> float:
    leaves = jax.tree.leaves(state)
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves) / _PARAMETERS


@draws("layerwise_decay")
def _layers(ax: Axes, name: str) -> str:
    order = [f"hidden{index}" for index in range(1, 6)] + ["logits"]
    params = dict.fromkeys(order, jnp.ones(1))
    tx = jc.layerwise_decay(jc.sgd(1.0), 0.5, order)
    updates, _ = tx.update(params, tx.init(params), params)
    _bars(ax, {layer: -float(updates[layer][0]) for layer in order}, "size of the step")
    return "layerwise_decay of sgd, by 0.5 per layer"


@draws("reduce_on_plateau")
def _plateau(ax: Axes, name: str) -> str:
    losses = jnp.asarray(0.2 + 0.8 * 0.7 ** np.minimum(np.arange(40), 12), float)
    tx = jc.reduce_on_plateau(factor=0.5, patience=5)

    def step(state: Any, loss: jax.Array) -> Any:
        updates, state = tx.update(jnp.ones(1), state, value=loss)
        return state, updates[0]

    _, scales = jax.jit(lambda: jax.lax.scan(step, tx.init(jnp.ones(1)), losses))()
    ax.plot(losses, label="loss", **line(ax, 0))
    ax.plot(scales, label="scale of the updates", drawstyle="steps-post", **line(ax, 1))
    ax.set_xlabel("step")
    ax.set_ylim(bottom=0)
    ax.legend(loc="upper right")
    return "halved after 5 steps without progress"


@draws("skip_nonfinite")
def _guard(ax: Axes, name: str) -> str:
    gradients = np.ones(30)
    gradients[10:13] = np.nan
    plain, guarded = (_walk(tx, gradients) for tx in (jc.sgd(0.1), _guarded()))
    ax.plot(guarded, label="skip_nonfinite(sgd)", **line(ax, 0))
    ax.plot(plain, "x", color=colour(ax, 1), markersize=4, label="sgd: NaN from step 11 on")
    ax.axvspan(10, 13, color=ink(ax), alpha=0.1, linewidth=0)
    ax.set(xlabel="step", ylabel="parameter")
    ax.legend(loc="lower left")
    return "three gradients are NaN (grey)"


@draws("read_skips")
def _skips(ax: Axes, name: str) -> str:
    tx = _guarded()
    params = {"hidden1/kernel": jnp.ones(1), "hidden2/kernel": jnp.ones(1), "logits": jnp.ones(1)}
    state = tx.init(params)
    for bad in ("hidden2/kernel", "logits", "hidden2/kernel"):
        gradients = {path: jnp.full(1, jnp.nan if path == bad else 1.0) for path in params}
        _, state = tx.update(gradients, state, params)
    report = jc.read_skips(state)
    _bars(ax, {path: report.leaves.get(path, 0) for path in params}, "steps that were not finite")
    ax.set_xticks(range(3))
    return f"{report.total} steps skipped, {report.consecutive} in a row"


def _guarded() -> optax.GradientTransformation:
    return jc.skip_nonfinite(jc.sgd(0.1))


def _walk(tx: Any, gradients: np.ndarray) -> np.ndarray:
    """A parameter, from zero, before each step and after the last."""
    return np.append(0.0, walked(tx, jnp.zeros(1), lambda *given: given[-1][None], gradients)[0])


@draws("probe")
def _norms(ax: Axes, name: str) -> str:
    probes = _probed()
    norms = {layer: probe.gradient for layer, probe in probes.items()}
    pictures.gradient_norms(ax, norms, next(iter(probes.values())).step)
    return "a logistic network: lower layers learn slower"


@draws("read_probes")
def _ratios(ax: Axes, name: str) -> str:
    probes = _probed()
    ratios = {layer: probe.ratio for layer, probe in probes.items()}
    steps = next(iter(probes.values())).step
    pictures.gradient_norms(ax, ratios, steps, label="norm of update / norm of weights")
    return "relative size of each layer's update"


@functools.cache
def _probed() -> dict[str, jc.Probes]:
    """Sixty steps of a small network of logistic units on random data."""
    keys = jax.random.split(jax.random.key(0), 6)
    layers = [f"hidden{index}" for index in range(1, 5)]
    params = {
        layer: {"kernel": jax.random.normal(key, (16, 16)) / 4.0}
        for layer, key in zip(layers, keys, strict=False)
    }
    x, y = (jax.random.normal(key, (64, 16)) for key in keys[4:])

    def loss(params: Any) -> jax.Array:
        h = x
        for layer in layers:
            h = jax.nn.sigmoid(h @ params[layer]["kernel"])
        return jnp.mean((h - y) ** 2)

    tx = jc.probe(jc.sgd(1.0), last=60)

    _, states = walked(tx, params, lambda params, *_: jax.grad(loss)(params), np.arange(60))
    return jc.read_probes(jax.tree.map(lambda leaf: leaf[-1], states))


@draws("EarlyStopping")
def _stopping(ax: Axes, name: str) -> str:
    epochs = np.arange(40)
    losses = 0.3 + 0.7 * np.exp(-epochs / 6) + 0.0004 * np.maximum(epochs - 12, 0) ** 2
    stopping = training.EarlyStopping(patience=8)
    state, best, stop = stopping.init(), 0, 0
    for epoch, loss in enumerate(losses):
        state = stopping.update(state, loss)
        best = epoch if state.improved else best
        if state.stop:
            stop = epoch
            break
    ax.plot(epochs, losses, **line(ax, 0))
    ax.plot(best, losses[best], "o", color=colour(ax, 1), markersize=7, label="best")
    ax.plot(stop, losses[stop], "X", color=colour(ax, 2), markersize=8, label="stop")
    ax.set(xlabel="epoch", ylabel="validation loss")
    ax.legend(loc="upper center")
    return "patience=8: stops 8 epochs after the best"


@draws("leafwise")
def _leafwise(ax: Axes, name: str) -> str:
    leaves = ["hidden1/kernel", "hidden1/bias", "logits/kernel"]
    for row, leaf in enumerate(leaves):
        box(ax, leaf, "given", 0.0, row, 1.3)
        box(ax, "update(gradient,\nstate, param, step)", "taken", 1.8, row, 1.5)
        box(ax, leaf, "new", 3.8, row, 1.3)
        for start, end in ((1.35, 1.75), (3.35, 3.75)):
            look = {"arrowstyle": "->", "color": ink(ax)}
            ax.annotate("", (end, row + 0.45), (start, row + 0.45), arrowprops=look)
    for x, title in ((0.65, "gradients"), (2.55, "your equation, leaf by leaf"), (4.45, "updates")):
        ax.text(x, -0.15, title, ha="center", va="top", fontsize=8)
    ax.set(xlim=(-0.1, 5.2), ylim=(-0.5, 3.1))
    ax.set_axis_off()
    return "an equation for one array is applied to a tree"


def _bars(ax: Axes, heights: dict[str, float], label: str) -> None:
    """Draws a bar for each name, with its value."""
    bars = ax.barh(list(heights), list(heights.values()), height=0.6, color=colour(ax, 0))
    ax.bar_label(bars, [f"{height:.3g}" for height in heights.values()], padding=3, fontsize=8)
    ax.margins(x=0.15)
    ax.set_xlabel(label)
