"""Statistics of activations and gradients of a network, layer by layer."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.layers import MLP
from jaxopt_cards.training.inputs import check_model, check_model_fits, default_loss, on_device

FLAT = 0.01  # slope of an activation below which a unit counts as saturated
LOST = 10.0  # factor over all layers above which a gradient vanishes or explodes
MANY = 0.5  # fraction of dead units, or of saturated activations, in a layer that is reported
NORMS = (nnx.BatchNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.GroupNorm, nnx.InstanceNorm)


class LayerStatistics(NamedTuple):
    """The statistics of one hidden layer."""

    layer: str  # its path in the model
    mean: float  # of its activations, over examples and units
    std: float  # their standard deviation
    zeros: float  # fraction of activations that are exactly zero
    saturated: float  # fraction that is not zero, with slope below 0.01; NaN with pooling
    dead: float  # fraction of units that are zero for every example
    gradient_norm: float  # root mean square gradient of one example's loss by the activations
    weight_gradient_norm: float  # root mean square gradient of the mean loss by the kernel


@declare
def layer_statistics(
    model: nnx.Module,
    x: Any,
    y: Any,
    *,
    loss: Callable[[jax.Array, jax.Array], jax.Array] = default_loss,
) -> list[LayerStatistics]:
    r"""Measures activations and gradients of every hidden layer, in one compiled pass.

    The statistics show where signals and gradients vanish, explode or saturate. Layers are the
    modules with a kernel, in the order of their calls; a layer's activations are the inputs of the
    next one. Dropout is off, and batch normalisation uses the statistics of these examples. The
    given model is not changed.

    Equation:
        .. math::
            r_i = \sqrt{\operatorname{mean} \left( \frac{\partial \ell}{\partial h_i} \right)^2},
            \qquad R_i = \sqrt{\operatorname{mean} \left( \frac{\partial L}{\partial W_i}
            \right)^2}

        with :math:`h_i` the activations and :math:`W_i` the kernel of layer :math:`i`,
        :math:`\ell` the loss of one example and :math:`L` the mean over the examples.

    Args:
        model: NNX module that maps a batch of inputs to outputs, such as `MLP`, `nnx.Sequential`.
        x: inputs, shape (n, ...).
        y: labels, shape (n,).
        loss: function of outputs and labels that returns a loss for each example. Default: softmax
            cross-entropy with integer labels.

    Returns:
        A list of `LayerStatistics`, one for each layer except the last: `layer`, `mean`, `std`,
        `zeros`, `saturated`, `dead`, `gradient_norm` (:math:`r_i`), `weight_gradient_norm`
        (:math:`R_i`).

    Raises:
        ValueError: the model has no hidden layer with a kernel, or does not fit the data; data are
            empty, not finite or have different lengths.

    References:
        Xavier Glorot, Yoshua Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks. Géron (2017), chapter 11, "Vanishing/Exploding Gradients
        Problems".

    Use when: a deep network does not start to learn, or you choose an initialiser.
    Avoid when: you need the gradients during training; `probe` records them.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from jaxopt_cards import cards, layers
        >>> x, y = np.random.default_rng(0).normal(size=(50, 8)), np.arange(50) % 3
        >>> model = layers.MLP(8, 3, activation="relu", rngs=nnx.Rngs(0))
        >>> first, *_, last = cards.layer_statistics(model, x.astype(np.float32), y)
        >>> first.layer, last.layer, 0.3 < first.zeros < 0.7
        ('hidden1', 'hidden5', True)
    """
    check_model(model)
    examples = on_device("the data", (x, y))
    check_model_fits("the data", model, loss, examples)
    parts: Any = nnx.split(_without_noise(model), nnx.Param, ...)  # typed for one filter only
    graph, params, rest = parts
    calls = [call.layer for call in _calls(graph, params, rest, examples.x) if call.layer]
    if len(calls) < 2:
        raise NamedError(
            "model must have a hidden layer with a kernel, got "
            f"{calls or 'none'} in {type(model).__name__}",
        )
    columns = jax.device_get(_measured(graph, loss, params, rest, examples.x, examples.y))
    rows = zip(*(column.tolist() for column in columns), strict=True)
    names = ["/".join(map(str, path)) for path in calls[:-1]]
    return [LayerStatistics._make((name, *row)) for name, row in zip(names, rows, strict=True)]


def diagnosis(layers: Sequence[LayerStatistics]) -> str:
    """A summary of the statistics of a network in one line."""
    gradients = np.array([row.gradient_norm for row in layers])
    if not np.isfinite([(row.std, row.gradient_norm) for row in layers]).all():
        return "not finite: activations or gradients overflow"
    first, last = gradients[0], gradients[-1]
    if last > 0 and not first:
        found = ["the gradient vanishes: it is zero in the first layer"]
    elif last > LOST * first:
        found = [f"the gradient vanishes by a factor of {last / first:.3g} over the layers"]
    elif first > LOST * last:
        factor = f"{first / last:.3g}" if last else "infinity"
        found = [f"the gradient explodes by a factor of {factor} over the layers"]
    else:
        found = []
    for what, shares in {
        "units are dead": [row.dead for row in layers],
        "activations are saturated": [row.saturated for row in layers],
    }.items():
        worst = int(np.argmax(np.nan_to_num(shares)))
        if shares[worst] >= MANY:
            found.append(f"{shares[worst]:.0%} of the {what} in {layers[worst].layer}")
    return "; ".join(found) or "healthy"


class _Call(NamedTuple):
    """An intermediate value of a forward pass: the input or the output of a layer."""

    layer: tuple | None  # the path, if it is the input of a layer with a kernel
    value: jax.Array


class _Watch:
    """Records inputs and outputs of layers, adds nudges to them, and may stop the gradient."""

    def __init__(self, nudges: Sequence[jax.Array] | None = None, cut: bool = False):
        self.nudges, self.cut = nudges, cut
        self.calls: list[_Call] = []

    def attach(self, model: nnx.Module) -> nnx.Module:
        """Connects the layers of this model to the watch; use the model for one pass only."""
        for path, module in list(nnx.iter_modules(model)):
            if isinstance(getattr(module, "kernel", None), nnx.Variable):
                self._subclass(module, path)
            elif isinstance(module, NORMS):
                self._subclass(module, None)
        return model

    def see(self, layer: tuple | None, value: jax.Array) -> jax.Array:
        """Records a value, and returns it with its nudge, without gradient if `cut`."""
        if self.nudges is not None:
            value = value + self.nudges[len(self.calls)]
        self.calls.append(_Call(layer, value))
        return jax.lax.stop_gradient(value) if self.cut and layer else value

    def _subclass(self, module: nnx.Module, path: tuple | None) -> None:
        watch, kind = self, type(module)

        # Python looks up __call__ in the class, so each module gets its own class.
        def call(self, x, *args, **kwargs):
            x = x if path is None else watch.see(path, x)
            return watch.see(None, kind.__call__(self, x, *args, **kwargs))

        object.__setattr__(module, "__class__", type(kind.__name__, (kind,), {"__call__": call}))


def _without_noise(model: nnx.Module) -> nnx.Module:
    """A copy in eval mode, except batch normalisation, whose statistics may be untrained."""
    model = nnx.clone(model)
    model.eval()
    for _, module in nnx.iter_modules(model):
        if isinstance(module, nnx.BatchNorm):
            module.use_running_average = False
        if isinstance(module, MLP):
            module.drop_connect = None  # so that the layers themselves are called
    return model


def _pass(graph: Any, params: Any, rest: Any, x: jax.Array, watch: _Watch) -> jax.Array:
    return watch.attach(nnx.merge(graph, params, rest, copy=True))(x)


def _calls(graph: Any, params: Any, rest: Any, x: jax.Array) -> list[_Call]:
    """The intermediate values of a forward pass, in the order of the calls, as shapes only."""
    watch = _Watch()
    jax.eval_shape(lambda p, r, x: _pass(graph, p, r, x, watch), params, rest, x)
    return watch.calls


@functools.partial(jax.jit, static_argnums=(0, 1))
def _measured(graph: Any, loss: Any, params: Any, rest: Any, x: jax.Array, y: jax.Array) -> tuple:
    """The columns of the statistics, for each layer except the last."""
    calls = _calls(graph, params, rest, x)
    inputs = [(place, call.layer) for place, call in enumerate(calls) if call.layer]
    nudges = [jnp.zeros(call.value.shape, call.value.dtype) for call in calls]

    def mean_loss(params: Any, nudges: Any) -> tuple[jax.Array, list[jax.Array]]:
        watch = _Watch(nudges)
        losses = loss(_pass(graph, params, rest, x, watch), y)
        return jnp.mean(losses), [call.value for call in watch.calls]

    def sum_of_activations(nudges: Any) -> jax.Array:
        watch = _Watch(nudges, cut=True)
        _pass(graph, params, rest, x, watch)
        return jnp.stack([jnp.sum(call.value) for call in watch.calls if call.layer]).sum()

    gradients = jax.grad(mean_loss, argnums=(0, 1), has_aux=True)
    (by_params, by_values), values = gradients(params, nudges)
    # The slopes of the activation functions between one layer and the next.
    slopes = jax.grad(sum_of_activations)(nudges)

    kernels = dict(nnx.to_flat_state(by_params))
    rows: list[tuple[jax.Array, ...]] = []
    for (_, layer), (place, _) in itertools.pairwise(inputs):
        of_activations = _of_activations(values[place], slopes[place - 1])
        weights = kernels[(*layer, "kernel")][...]
        rows.append((*of_activations, _rms(len(x) * by_values[place]), _rms(weights)))
    return tuple(jnp.stack(column) for column in zip(*rows, strict=True))


def _of_activations(values: jax.Array, slopes: jax.Array) -> tuple[jax.Array, ...]:
    """Mean, standard deviation, and fractions of zeros, saturated activations and dead units."""
    zero = values == 0
    dead = jnp.all(zero, axis=tuple(range(zero.ndim - 1)))
    # With pooling, there is no slope for each activation.
    same = slopes.size == values.size
    flat = (jnp.abs(slopes) < FLAT).reshape(values.shape) & ~zero if same else jnp.full(1, jnp.nan)
    shares = [jnp.mean(share) for share in (zero, flat, dead)]
    return (jnp.mean(values), jnp.std(values), *shares)


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(jnp.square(x)))
