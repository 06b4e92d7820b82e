"""Online training: each batch of a stream is seen once."""

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import check_seed
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError, NotFiniteError
from jaxopt_cards.core.paths import path_names
from jaxopt_cards.training import epoch_program
from jaxopt_cards.training.frozen import filter_of
from jaxopt_cards.training.inputs import (
    check_labels,
    check_model,
    check_model_fits,
    default_loss,
    on_device,
)
from jaxopt_cards.training.settings import BY_EPOCHS, STEP, StepSettings, check_trainable, options

_CHECKED_EVERY = 100  # batches, since each look waits for the device


class OnlineResult(NamedTuple):
    """What `fit_online` returns."""

    model: nnx.Module  # after the last batch, in evaluation mode
    losses: np.ndarray  # shape (batches,): of each batch before it was learned from


@declare(settings=STEP, refused=BY_EPOCHS)
def fit_online(
    model: nnx.Module,
    tx: optax.GradientTransformation,
    batches: Iterable[Any],
    *,
    seed: int = 0,
    **settings: Unpack[StepSettings],
) -> OnlineResult:
    r"""Trains on a stream of batches, each of which is used once.

    The loss of each batch is measured before the step, so the losses show how the model follows a
    stream that drifts. In the compiled step all batches have the shape of the first: shorter ones
    are filled up with examples of weight zero.

    The mean weight of a stream is not known in advance. The training loss is therefore the sum of
    weight times loss, divided by the number of examples: a weight of 1000 makes a step of SGD 1000
    times as long as a weight of 1.

    Equation:
        .. math:: \ell_t(\theta) =
            \frac{1}{m_t} \sum_i w_{t,i}\, \ell(f_\theta(x_{t,i}), y_{t,i}), \qquad
            \theta_t = \theta_{t-1} + u_t(\nabla \ell_t(\theta_{t-1}))

        with :math:`m_t` the number of examples of batch :math:`t`, :math:`w` their weights.

    Args:
        model: any NNX module; not changed.
        tx: any gradient transformation.
        batches: pairs (x, y), or (x, y, weight) with numbers >= 0; the first is the longest.
        seed: int in [0, inf); seed of `augment`.
        settings: `loss`, `regularizer`, `augment`, `trainable` and `evaluated` as in `fit`.

    Returns:
        An `OnlineResult`: `model` after the last batch, and `losses`, one number per batch: the
        weighted mean over its examples.

    State:
        On the device: one batch, the model and the optimizer's state.

    Raises:
        ValueError: no batches; a batch longer than the first; or as in `fit`.
        FloatingPointError: the weights are not finite; the message names batch and layer. If only
            the loss is not finite, as under `skip_nonfinite`, it is one of the `losses`.

    References:
        Léon Bottou (1998), Online Learning and Stochastic Approximations.

    Use when: data arrive as a stream, or are too large to keep.
    Avoid when: data can be kept: several epochs of `fit` learn more from them.

    Example:
        >>> import jaxopt_cards as jc
        >>> from flax import nnx
        >>> from jaxopt_cards import data, layers, training
        >>> x, y = data.digits().train
        >>> stream = ((x[i : i + 20], y[i : i + 20]) for i in range(0, len(y), 20))
        >>> model = layers.MLP(64, 10, rngs=nnx.Rngs(0))
        >>> losses = training.fit_online(model, jc.adam(1e-3), stream).losses
        >>> bool(losses[-10:].mean() < 0.5 * losses[:10].mean())
        True
    """
    check_model(model)
    check_seed("seed", seed)
    loss, added = settings["loss"], options(settings)
    key, carry = jax.random.key(seed), None
    losses: list[jax.Array] = []
    mean_weights: list[float] = []
    longest, checked = 0, None
    outputs: Any = None
    for number, examples in enumerate(batches, 1):
        batch = on_device(f"batch {number}", examples, weighted=True)
        kind = (batch.x.shape[1:], batch.x.dtype, batch.y.shape[1:], batch.y.dtype)
        if checked != kind:  # tracing the model for each batch would take longer than the step
            outputs = check_model_fits(f"batch {number}", model, loss, batch)
            checked = kind
        elif loss is default_loss:
            check_labels(f"batch {number}", batch.y, outputs.shape)
        if carry is None:
            longest = batch.size
            trainable = filter_of(settings["trainable"], model)
            program, arrays, frozen = epoch_program.prepared(model, trainable, loss, longest, added)
            check_trainable(settings["trainable"], trainable, arrays, frozen)
            run = jax.tree.map(jnp.copy, epoch_program.first_run(program, arrays, tx))
            carry = (run.model, run.opt_state, jnp.zeros((), jnp.int32))
        mean_weights.append(1.0 if batch.weight is None else np.asarray(batch.weight, float).mean())
        batch = _filled_up(batch, longest, number)
        carry, value = _online_step(program, tx, carry, frozen, batch, key, jnp.int32(number))
        losses.append(value)
        if number % _CHECKED_EVERY == 0:
            _check_healthy(carry, number)
    if carry is None:
        raise NamedError("batches is empty")
    _check_healthy(carry, number)
    means = np.array(losses, float) / np.array(mean_weights)
    shown = epoch_program.evaluated(program, *carry[:2])
    return OnlineResult(epoch_program.merge(program.eval_graph, shown, frozen), means)


def _check_healthy(carry: tuple, number: int) -> None:
    """Raises if weights are not finite; a bad loss is allowed if its step was skipped."""
    arrays, _, bad_step = carry
    leaves = jax.tree.leaves(arrays.params)
    broken = [not bool(jnp.isfinite(leaf).all()) for leaf in leaves]
    if not any(broken):
        return
    paths = [path for path, bad in zip(path_names(arrays.params), broken, strict=True) if bad]
    since = f"the loss is not finite since batch {int(bad_step)}"
    if not bad_step:  # the last batch did it, whose loss was still finite
        since = f"the weights are not finite after batch {number}"
    raise NotFiniteError(
        f"{since}, in {', '.join(paths)}: try a lower learning rate, clip gradients, "
        "or wrap the transformation in skip_nonfinite"
    )


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _online_step(
    program: epoch_program.Program,
    tx: optax.GradientTransformation,
    carry: tuple,
    frozen: Any,
    batch: epoch_program.Data,
    key: jax.Array,
    number: jax.Array,
) -> tuple[tuple, jax.Array]:
    step = (number, jnp.arange(batch.size), batch.weight)
    # What comes after a bad batch is up to the transformation: `skip_nonfinite` goes on.
    return epoch_program.one_step(program, tx, (), frozen, batch, key, carry, step, halts=False)


def _filled_up(batch: epoch_program.Data, size: int, number: int) -> epoch_program.Data:
    """The batch with rows of weight zero up to the first batch's size.

    Weights are divided by the number of its own examples.
    """
    missing = size - batch.size
    if missing < 0:
        raise NamedError(
            f"batch {number} must be no longer than the first, of {size} examples, got "
            f"{batch.size}",
        )
    weight = jnp.ones(batch.size, jnp.float32) if batch.weight is None else batch.weight
    weight = weight / batch.size

    def repeat(array):
        return jnp.resize(array, (size, *array.shape[1:]))

    return epoch_program.Data(repeat(batch.x), repeat(batch.y), jnp.pad(weight, (0, missing)))
