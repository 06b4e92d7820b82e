"""Monte Carlo dropout: many passes with dropout, their mean and their spread."""

import functools
import itertools
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_seed
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.layers import Dropout
from jaxopt_cards.training.epoch_program import EVALUATION_BATCH
from jaxopt_cards.training.inputs import check_model, check_range, numbers, outputs_for
from jaxopt_cards.training.prediction import batches

_DROPOUTS = (Dropout, nnx.Dropout)


class MonteCarlo(NamedTuple):
    """Mean and standard deviation of the passes, with a row for each input."""

    mean: np.ndarray
    spread: np.ndarray


@declare
def monte_carlo_predict(
    model: nnx.Module,
    x: Any,
    *,
    passes: Annotated[int, "[2, inf)"] = 100,
    seed: int = 0,
    transform: Callable[[jax.Array], jax.Array] | None = jax.nn.softmax,
    batch_size: Annotated[int, "[1, inf)"] = EVALUATION_BATCH,
) -> MonteCarlo:
    r"""Predicts by many passes with dropout: an ensemble of the networks that dropout samples.

    Each pass drops other units, as in training, and so is the prediction of another of the networks
    that share the weights. Their mean is the prediction of the ensemble, of which one pass without
    dropout is an approximation; their spread tells how much they disagree. Only dropout and
    DropConnect are in training mode: batch normalisation has its running statistics. Examples have
    masks of their own, except that DropConnect has one mask for a batch. `model` is not changed.

    Equation:
        .. math::
            \bar y = \frac{1}{n} \sum_{i=1}^{n} t(f(x, m_i)), \qquad
            s^2 = \frac{1}{n} \sum_{i=1}^{n} (t(f(x, m_i)) - \bar y)^2

        with :math:`x` an input, :math:`f` the model, :math:`m_i` the masks of pass :math:`i` of
        :math:`n` = `passes`, :math:`t` = `transform`, :math:`\bar y` the mean, :math:`s` the
        spread.

    Args:
        model: an NNX module with `layers.Dropout`, `layers.DropConnect` or `nnx.Dropout`, that maps
            a batch of inputs to an array of outputs.
        x: inputs, shape (n, ...).
        passes: how often each input is predicted; the time is proportional to it.
        seed: of the masks.
        transform: function of the outputs of each pass. Default: softmax, from logits to
            probabilities; `None` for none.
        batch_size: number of inputs that are in memory at a time.

    Returns:
        A `MonteCarlo` of NumPy arrays `mean` and `spread`, with a row for each input.

    Raises:
        ValueError: a model without dropout, no inputs, or inputs that the model does not take.

    References:
        Yarin Gal, Zoubin Ghahramani (2016), Dropout as a Bayesian Approximation. Géron (2017),
        chapter 11, "Dropout": a network trained with dropout as an averaging ensemble.

    Use when: it matters how certain a prediction is.
    Avoid when: the time of a prediction matters; `predict` is one pass.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, training
        >>> model = layers.MLP(4, 3, dropout_rate=0.5, rngs=nnx.Rngs(0))
        >>> mean, spread = training.monte_carlo_predict(model, np.ones((5, 4)), passes=20)
        >>> mean.shape, bool((spread > 0).all())
        ((5, 3), True)
    """
    check_model(model)
    check_seed("seed", seed)
    if transform is not None and not callable(transform):
        raise HyperparameterError("transform", "be a function of the outputs or None", transform)
    x = numbers(x)
    if x.ndim == 0 or len(x) == 0:
        raise NamedError(f"x is empty: it has the shape {x.shape}")
    check_range("x", x)
    outputs_for("x", model, x)
    model = nnx.clone(model)
    model.eval()
    dropouts = [each for _, each in nnx.iter_modules(model) if isinstance(each, _DROPOUTS)]
    if not dropouts:
        raise HyperparameterError("model", "have a layer with dropout", type(model).__name__)
    for each in dropouts:
        each.deterministic = False
    split: Any = nnx.split(model, nnx.RngKey, ...)  # typed for one filter only
    graph, keys, rest = split
    numbered = itertools.count()  # batches differ in their masks

    def run(state: Any, rows: Any) -> tuple[jax.Array, jax.Array]:
        key = jax.random.fold_in(jax.random.key(seed), next(numbered))
        return _passes(graph, transform, passes, state, rows, key)

    parts = list(batches(run, (keys, rest), x, min(batch_size, len(x))))
    means, spreads = (np.concatenate([part[column] for part in parts]) for column in (0, 1))
    return MonteCarlo(means, spreads)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _passes(
    graph: nnx.GraphDef, transform: Any, passes: int, state: Any, x: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Mean and spread by running sums (Welford), so that one pass is in memory at a time."""
    keys, rest = state
    leaves, structure = jax.tree.flatten(keys)
    other_leaves, other_structure = jax.tree.flatten(rest)

    def outputs(index: Any) -> jax.Array:
        # Streams get keys of their own: equal masks in two layers would not be independent.
        fresh = jax.random.split(jax.random.fold_in(key, index), len(leaves))
        drawn = jax.tree.unflatten(structure, list(fresh))
        # Made here, since variables of the loop's outside cannot change inside it.
        model: Any = nnx.merge(graph, drawn, jax.tree.unflatten(other_structure, other_leaves))
        return model(x) if transform is None else transform(model(x))

    def one(index: Any, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        mean, squares = sums
        y = outputs(index)
        new = mean + (y - mean) / (index + 1)
        return new, squares + (y - mean) * (y - new)

    like = jax.eval_shape(outputs, 0)
    zeros = jnp.zeros(like.shape, like.dtype)
    mean, squares = jax.lax.fori_loop(0, passes, one, (zeros, zeros))
    return mean, jnp.sqrt(squares / passes)
