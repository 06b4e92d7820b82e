"""A search for the number of layers to reuse, as one population."""

import dataclasses
import functools
import operator
import re
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_count
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NotFiniteError
from jaxopt_cards.core.paths import path_name
from jaxopt_cards.layers import MLP, ResidualMLP, he_normal
from jaxopt_cards.training import FitResult, SearchResult, fit_many
from jaxopt_cards.training.population import MakeTx
from jaxopt_cards.training.search import scores
from jaxopt_cards.transfer.hold import held, released
from jaxopt_cards.transfer.mlp_parts import (
    check_mlp,
    check_upto,
    dense_layers,
    dropout_rates,
    look_of,
    parts_of,
)


@dataclasses.dataclass(frozen=True)
class ReuseResult(SearchResult):
    """The result of `reuse_layers`; print it.

    Attributes:
        table: one row for each depth, in ascending order: `rank`, `depth`, the means and standard
            deviations over seeds of `valid_loss` and `valid_accuracy` in the best epoch, and the
            mean `best_epoch`.
        best: `{"depth": …}`, with the least mean validation loss.
        model: the best model with that depth, an MLP in eval mode.
        results: for each depth, a `FitResult` for each seed.
    """

    model: nnx.Module
    results: dict[int, list[FitResult]]


@declare
def reuse_layers(
    model: MLP,
    tx: optax.GradientTransformation,
    out_features: Annotated[int, "[1, inf)"],
    *,
    train: Sequence[Any],
    valid: Sequence[Any],
    depths: Sequence[int] | None = None,
    freeze: bool = True,
    seeds: Sequence[int] = (0,),
    batch_size: int = 32,
    epochs: int = 100,
    patience: int | None = None,
    kernel_init: nnx.Initializer = he_normal,
    **settings: Any,
) -> ReuseResult:
    r"""Finds out how many lower layers of a network to reuse, by training with each number of them.

    Every candidate has the network's architecture and a head for the new task. In the candidate of
    depth k, the lower k hidden layers are copies, with their running statistics. All other weights
    are new, and the same for all depths of a seed. Each candidate gives the same results as `fit`
    with `freeze`, up to the rounding of float32.

    All candidates are members of one population, compiled once. In this one program, frozen layers
    still have gradients and an optimizer state, which are not used, so every depth costs as much as
    training all layers. A single run with `freeze` or `cache_features` costs less.

    Equation:
        .. math:: k^* = \arg\min_{k} \frac{1}{|S|} \sum_{s \in S}
            \ell_V\big(\mathrm{fit}(\tilde\theta_{1..k}, \theta^{(s)}_{k+1..n})\big), \qquad
            \Delta\theta_l \leftarrow [\,l > k\,]\, \Delta\theta_l

        with :math:`\tilde\theta_l` the network's layer :math:`l`, :math:`\theta^{(s)}` the new
        weights of seed :math:`s`; the second formula freezes the layers.

    Args:
        model: a trained `layers.MLP`; not changed.
        tx: any gradient transformation. If it draws random numbers for each array, like
            `add_noise`, results differ from those of `fit`, since frozen layers draw them, too.
        out_features: number of classes of the new task.
        train: as in `fit`.
        valid: pair (x, y), by which the best epoch and the best depth are chosen.
        depths: different integers >= 0; how many layers to reuse. Default: from 0 to all.
        freeze: whether the reused layers are frozen. If False, they are trained, too.
        seeds: different integers >= 0; each depth is trained with each of them. They seed the
            new weights, with `nnx.Rngs(seed)`, and the examples' order.
        batch_size: as in `fit`.
        epochs: as in `fit`.
        patience: as in `fit`.
        kernel_init: initialiser of the new kernels; default He's.
        settings: other arguments of `fit_many`: `loss`, `augment`, `side_by_side`, `progress`, … A
            `regularizer` also gets the frozen parameters.

    Returns:
        A `ReuseResult`: `table`, `best`, `model`, `results`, `save(path)`.

    State:
        That of `fit_many` for `len(depths) * len(seeds)` runs.

    Raises:
        ValueError: the model is not an `MLP`; a depth exceeds its layers; or as in `fit_many`.
        FloatingPointError: no depth has a finite validation loss.

    References:
        Jason Yosinski et al. (2014), How transferable are features in deep neural networks? Géron
        (2017), chapter 11, "Tweaking, Dropping, or Replacing the Upper Layers" and exercise 9.4.

    Use when: you have a trained network, and do not know how many of its layers to reuse.
    Avoid when: the network is large; try two or three depths with `freeze`, which costs less.

    Example:
        >>> import jaxopt_cards as jc
        >>> from flax import nnx
        >>> from jaxopt_cards import data, layers, transfer
        >>> train, valid, test = data.digits()
        >>> model = layers.MLP(64, 5, units=(30, 30), rngs=nnx.Rngs(0))  # as if it were trained
        >>> result = transfer.reuse_layers(
        ...     model, jc.adam(1e-3), 10, train=train, valid=valid, epochs=2, progress=False
        ... )
        >>> [row["depth"] for row in result.table], result.model.logits.kernel.shape
        ([0, 1, 2], (30, 10))
    """
    check_mlp(model)
    depths = range(model.depth + 1) if depths is None else depths
    depths, seeds = _distinct("depths", depths), _distinct("seeds", seeds)
    for depth in depths:
        check_upto("each of depths", depth, model)
    if not isinstance(freeze, bool):
        raise HyperparameterError("freeze", "be True or False", freeze)
    for argument in {"trainable", "hyperparameters", "folds"} & settings.keys():
        raise HyperparameterError(argument, "be left out", settings[argument])

    members = [(depth, seed) for depth in depths for seed in seeds]
    networks = [_network(model, out_features, kernel_init, *member) for member in members]
    fitted = fit_many(
        [held(network, depth) for network, (depth, _) in zip(networks, members, strict=True)]
        if freeze
        else networks,
        _freezing(tx) if freeze else tx,
        [{"depth": depth} for depth, _ in members] if freeze else None,
        train=train,
        valid=valid,
        seeds=[seed for _, seed in members],
        batch_size=batch_size,
        epochs=epochs,
        patience=patience,
        **settings,
    )
    results: dict[int, list[FitResult]] = {depth: [] for depth in sorted(depths)}
    for (depth, _), network, result in zip(members, networks, fitted, strict=True):
        results[depth].append(dataclasses.replace(result, model=released(network, result.model)))
    return _compared(results)


def _distinct(argument: str, values: Any) -> list[int]:
    """The numbers of a list; raises unless they are one or more different whole numbers >= 0."""
    values = values.tolist() if isinstance(values, np.ndarray) else values
    is_list = isinstance(values, Sequence) and not isinstance(values, str)
    numbers = list(values) if is_list else []
    for number in numbers:
        check_count(f"each of {argument}", number, least=0)
    numbers = [operator.index(number) for number in numbers]  # arrays are not hashable
    if not numbers or len(set(numbers)) < len(numbers):
        expected = "be a list of different whole numbers"
        raise HyperparameterError(argument, expected, values)
    return numbers


def _network(
    model: MLP, out_features: int, kernel_init: nnx.Initializer, depth: int, seed: int
) -> MLP:
    """A new network with the model's architecture and copies of its lower layers."""
    dense = dense_layers(model)
    noise: dict[str, Any] = {
        f"{name}_rate": jnp.copy(getattr(model, name).rate[...])
        for name in ("input_dropout", "drop_connect")
        if getattr(model, name) is not None
    }
    if (rates := dropout_rates(model)) is not None:
        noise["dropout_rate"] = rates
    make = ResidualMLP if isinstance(model, ResidualMLP) else MLP
    network = make(
        dense[0].in_features,
        out_features,
        [layer.out_features for layer in dense[:-1]],
        kernel_init=kernel_init,
        rngs=nnx.Rngs(seed),
        **look_of(model),
        **noise,
    )
    copied = nnx.clone(model)  # the whole model, since layers may share parameters
    for index in range(1, depth + 1):
        for end, part in parts_of(copied, index).items():
            name = f"hidden{index}{end}"
            # Random streams come from the seed, so that runs of several seeds differ.
            nnx.update(part, nnx.state(getattr(network, name), nnx.RngState))
            setattr(network, name, part)
    return network


@functools.lru_cache(maxsize=64)  # one object for each, so that programs are compiled once
def _freezing(tx: optax.GradientTransformation) -> MakeTx:
    """A function from the depth to a transformation that trains only the layers above it.

    Updates of frozen layers are set to zero before `tx`, so that a global norm does not count them,
    and after it, so that weight decay does not change them.
    """
    return lambda depth: optax.chain(_only_above(depth), tx, _only_above(depth))


def _only_above(depth: Any) -> optax.GradientTransformation:
    """Sets the updates of the hidden layers up to a depth, which may be traced, to zero."""

    def one(path: Any, update: jax.Array) -> jax.Array:
        layer = re.match(r"hidden(\d+)[_/]", path_name(path))
        return update if layer is None else jnp.where(int(layer[1]) > depth, update, 0)

    return optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(one, updates))


def _compared(results: dict[int, list[FitResult]]) -> ReuseResult:
    """The table, and the best model."""
    rows = [{"depth": depth} | scores(runs) for depth, runs in results.items()]
    losses = np.nan_to_num([row["valid_loss"] for row in rows], nan=np.inf)
    if not np.isfinite(losses).any():
        trouble = next(iter(results.values()))[0].trouble
        raise NotFiniteError(f"no depth has a finite valid_loss: {trouble}")
    order = np.argsort(losses, stable=True).tolist()
    table = [{"rank": order.index(index) + 1} | row for index, row in enumerate(rows)]
    best = rows[order[0]]["depth"]
    winner = min(results[best], key=lambda run: run.history.valid_loss[run.best_epoch - 1])
    return ReuseResult(table, {"depth": best}, winner.model, results)
