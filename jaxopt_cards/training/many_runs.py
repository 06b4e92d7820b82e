"""Many runs at once: a population of models, hyperparameters, seeds and folds."""

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import (
    HyperparameterError,
    check_count,
    check_number,
    check_seed,
    check_tx,
)
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError, names_kept
from jaxopt_cards.training import epoch_program
from jaxopt_cards.training.devices import Placement, as_placement
from jaxopt_cards.training.frozen import filter_of
from jaxopt_cards.training.inputs import (
    as_float32,
    check_model,
    check_model_fits,
    on_device,
)
from jaxopt_cards.training.outcome import FitResult, history_of, stops, trouble_in
from jaxopt_cards.training.population import MakeTx, Member, Whole, whole_runs
from jaxopt_cards.training.settings import (
    BY_EPOCHS,
    RUN,
    RunSettings,
    check_batch_size,
    check_trainable,
    options,
)

Folds = Sequence[tuple[Any, Any]]
_FOREVER = np.iinfo(np.int32).max


@declare(
    settings=RUN,
    refused=BY_EPOCHS
    | {"mesh": "be given as placement=mesh", "seed": "be given as seeds, one for each run"},
)
def fit_many(
    models: Sequence[nnx.Module],
    tx: optax.GradientTransformation | Callable[..., optax.GradientTransformation],
    hyperparameters: Sequence[Mapping[str, float]] | None = None,
    *,
    train: Sequence[Any],
    valid: Sequence[Any] | None = None,
    folds: Folds | None = None,
    batch_size: int | Sequence[int] = 32,
    seeds: Sequence[int] | None = None,
    side_by_side: int | None = None,
    placement: Placement | jax.sharding.Mesh | None = None,
    **settings: Unpack[RunSettings],
) -> list[FitResult]:
    r"""Trains many models as one compiled program: seeds, folds, learning rates, dropout rates.

    Each run is `fit` as a pure function, including early stopping and the best snapshot, so many of
    them can be mapped over at once. A run gives the same results as it does alone, up to the
    rounding of float32; it no longer changes once it has stopped. Runs of the same shapes (units,
    layers, batch size, size of the fold) form a group, which is compiled once.

    Args:
        models: one NNX module for each run. Modules that differ only in arrays, such as weights or
            the rate of `layers.Dropout`, share a group.
        tx: a gradient transformation for all runs, or a function of the hyperparameters of a run
            that makes one: `lambda learning_rate: adam(learning_rate)`.
        hyperparameters: the numbers that `tx` takes, by name, for each run.
        train: pair (x, y), or (x, y, weight), shared by all runs.
        valid: pair (x, y), or (x, y, weight), shared by all runs.
        folds: instead of `valid`: for each run the rows of `train` to train on and the rows to
            validate on, as scikit-learn's splitters give them. Weights apply to both.
        batch_size: int in [1, inf), or one for each run.
        seeds: for each run the seed of the order of the examples. Default: 0 for all.
        side_by_side: int in [1, inf); how many runs share each operation, under `vmap`. Parts of
            this size follow each other in the same program. Default: the whole group, but 1 on a
            CPU, where the operations of one run keep the cores busy and early stopping saves more.
        placement: a `jax.sharding.Mesh`: the runs of a group are spread over all its devices.
        settings: `epochs`, `patience`, `loss`, `regularizer`, `augment`, `plateau`, `trainable`,
            `evaluated` and `progress` as in `fit`; progress is a line for each group.

    Returns:
        A list of `FitResult`, one for each run. The time of a group is divided equally among its
        runs. If the validation loss was never finite, `best_epoch` is 0 and the model is unchanged.

    State:
        On the device: that of `fit` for each run; the data once.

    Raises:
        ValueError: as in `fit`; lists of unequal lengths; hyperparameters that are not numbers or
            that `tx` does not take; neither `valid` nor `folds`.

    References:
        Roy Frostig, Matthew Johnson, Chris Leary (2018), Compiling machine learning programs via
        high-level tracing. Géron (2017), chapter 11, exercise 8.3.

    Use when: models are small and there are many runs: seeds, folds, a search.
    Avoid when: one run fills the device, or you need progress or checkpoints by epoch.

    Example:
        >>> import jaxopt_cards as jc
        >>> from flax import nnx
        >>> from jaxopt_cards import data, layers, training
        >>> train, valid, _ = data.digits()
        >>> rates = [{"learning_rate": 1e-4}, {"learning_rate": 1e-2}]
        >>> models = [layers.MLP(64, 10, units=(20,), rngs=nnx.Rngs(0)) for _ in rates]
        >>> slow, fast = training.fit_many(
        ...     models, jc.adam, rates, train=train, valid=valid, epochs=3, progress=False
        ... )
        >>> bool(fast.history.valid_loss[-1] < slow.history.valid_loss[-1])
        True
    """
    _check_kinds(models, hyperparameters)
    n = len(models)
    _check_lengths(n, hyperparameters=hyperparameters, seeds=seeds, folds=folds)
    train_data = on_device("train", train, weighted=True)
    valid_data, rows = _validation(train_data, valid, folds, n)
    sizes = list(batch_size) if isinstance(batch_size, Sequence) else [batch_size] * n
    _check_lengths(n, batch_size=sizes)
    make_tx = _made_by(tx)
    placement = _checked_placement(placement, side_by_side)

    groups: dict[Any, list[tuple[int, Member]]] = {}
    for index, model in enumerate(models):
        program, arrays, frozen = _prepared(model, sizes[index], settings)
        seed = 0 if seeds is None else seeds[index]
        check_seed("each of seeds", seed)
        member = Member(
            _numbers(make_tx, hyperparameters[index] if hyperparameters else {}),
            arrays,
            frozen,
            *rows[index],
            jax.random.key(int(seed)),
        )
        check_batch_size(sizes[index], train_data._replace(rows=member.train_rows).size)
        shapes = tuple((jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(member))
        kind = (program, tuple(member.hyperparameters), shapes)
        if kind not in groups:
            for what, examples in (("train", train_data), ("valid", valid_data)):
                check_model_fits(what, model, settings["loss"], examples)
        groups.setdefault(kind, []).append((index, member))

    results: dict[int, FitResult] = {}
    stop = (settings["epochs"], settings["patience"])
    for (program, *_), group in groups.items():
        indices, members = zip(*group, strict=True)
        ran = _run_group(
            program, make_tx, *stop, side_by_side, placement, members, train_data, valid_data
        )
        results |= zip(indices, ran, strict=True)
        if settings["progress"]:
            print(f"fit_many: {len(results)} of {n} runs done", flush=True)
    return [results[index] for index in range(n)]


def _checked_placement(placement: Any, side_by_side: int | None) -> Placement | None:
    """The placement, whose devices get whole runs, all side by side."""
    placement = as_placement(placement)
    if placement and placement.has_rules:
        expected = "have no sharding rules, since whole runs are spread over the devices"
        raise HyperparameterError("placement", expected, placement)
    if placement and side_by_side is not None:
        expected = "be None with a placement, where all runs are side by side"
        raise HyperparameterError("side_by_side", expected, side_by_side)
    return placement


def _prepared(
    model: nnx.Module, batch_size: int, settings: Mapping[str, Any]
) -> tuple[epoch_program.Program, epoch_program.Arrays, Any]:
    """The program of a run, and its model's arrays, trained and frozen."""
    check_model(model)
    check_count("batch_size", batch_size)
    trainable = filter_of(settings["trainable"], model)
    prepared = epoch_program.prepared(
        model, trainable, settings["loss"], batch_size, options(settings)
    )
    check_trainable(settings["trainable"], trainable, *prepared[1:])
    return prepared


def _run_group(
    program: epoch_program.Program,
    make_tx: MakeTx,
    epochs: int,
    patience: int | None,
    side_by_side: int | None,
    placement: Placement | None,
    members: Sequence[Member],
    train: epoch_program.Data,
    valid: epoch_program.Data,
) -> list[FitResult]:
    """Compiles and runs one group, and takes the results apart."""
    if side_by_side is None:
        side_by_side = 1 if jax.default_backend() == "cpu" else len(members)
    check_count("side_by_side", side_by_side)
    # Every device gets the same number of runs; padding runs are ignored.
    missing = -len(members) % placement.mesh.size if placement else 0
    filled = [*members, *[members[0]] * missing]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *filled)
    inputs = (stacked, train, valid, jnp.int32(_FOREVER if patience is None else patience))
    if placement:
        side_by_side = len(members) + missing
        inputs = (placement.spread(stacked), *placement.replicated(inputs[1:]))
    started = time.perf_counter()
    lowered = whole_runs.lower(program, make_tx, epochs, side_by_side, *inputs)
    compiled = lowered.compile(epoch_program.compiler_options())
    compiled_at = time.perf_counter()
    whole = jax.device_get(compiled(*inputs))
    seconds = time.perf_counter() - compiled_at
    ended = whole.run.epoch[: len(members)]
    return [
        _result(
            program,
            member,
            jax.tree.map(lambda leaf, i=index: leaf[i], whole),
            train,
            patience,
            seconds / ended.sum(),
            (compiled_at - started) / len(members),
        )
        for index, member in enumerate(members)
    ]


def _result(
    program: epoch_program.Program,
    member: Member,
    whole: Whole,
    train: epoch_program.Data,
    patience: int | None,
    epoch_seconds: float,
    compile_seconds: float,
) -> FitResult:
    epochs = int(whole.run.epoch)
    losses = np.asarray(whole.history[:epochs], float).tolist()
    steps = -(-train._replace(rows=member.train_rows).size // program.batch_size)
    history = history_of([[*row, epoch_seconds] for row in losses], steps)
    stopped = stops(losses, epochs, patience)
    return FitResult(
        model=epoch_program.merge(
            program.eval_graph, jax.tree.map(jnp.asarray, whole.run.best), member.frozen
        ),
        history=history,
        best_epoch=int(whole.run.best_epoch),
        stopped=stopped,
        compile_seconds=compile_seconds,
        trouble=trouble_in(history, whole.measured, whole.run.model.params),
        best_step=steps * int(whole.run.best_epoch),
    )


def _validation(
    train: epoch_program.Data, valid: Any, folds: Folds | None, n: int
) -> tuple[epoch_program.Data, list[tuple[Any, Any]]]:
    """The validation data, and for each run the rows to train and to validate on."""
    if (valid is None) == (folds is None):
        raise NamedError("give exactly one of valid and folds")
    if folds is None:
        return on_device("valid", valid, weighted=True), [(None, None)] * n
    rows = [(_checked_rows(a, train.size), _checked_rows(b, train.size)) for a, b in folds]
    if train.weight is not None:
        weight, least = np.asarray(train.weight), np.finfo(np.float32).tiny
        for part, of_part in zip(("training", "validation"), zip(*rows, strict=True), strict=True):
            if any(weight[np.asarray(chosen)].max() < least for chosen in of_part):
                problem = f"a fold has no {part} example of a weight above 0"
                raise NamedError(problem)
    return train, rows


def _checked_rows(rows: Any, n: int) -> jax.Array:
    rows = np.asarray(rows)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or not rows.size:
        raise NamedError(f"each part of a fold must be a list of row numbers, got {rows!r}")
    if rows.min() < 0 or rows.max() >= n:
        raise NamedError(
            f"the rows of folds must lie in [0, {n - 1}], got values from "
            f"{rows.min()} to {rows.max()}",
        )
    return jnp.asarray(rows, jnp.int32)


@functools.lru_cache(maxsize=256)  # one object for each, so that programs are compiled once
def always(tx: optax.GradientTransformation) -> MakeTx:
    """A function without hyperparameters that returns `tx`."""
    return lambda: tx


def _made_by(tx: Any) -> MakeTx:
    """A function of hyperparameters, whether `tx` is one or a transformation."""
    if callable(tx) and not hasattr(tx, "init"):
        return tx
    check_tx("tx", tx)
    return always(tx)


def _numbers(make_tx: MakeTx, hyperparameters: Mapping[str, float]) -> dict[str, jax.Array]:
    """The hyperparameters of a run as arrays, if `tx` takes these."""
    for name, value in hyperparameters.items():
        check_number(f"hyperparameter {name}", value, "(-inf, inf)")
    try:
        inspect.signature(make_tx).bind(**hyperparameters)
    except TypeError as error:
        raise NamedError(
            f"tx does not take the hyperparameters {sorted(hyperparameters)}: {error}"
        ) from None
    with names_kept():  # which refuses by name what is out of range
        tx = make_tx(**hyperparameters)
    check_tx("tx", tx)
    return {
        name: as_float32(f"hyperparameter {name}", value) for name, value in hyperparameters.items()
    }


def _check_kinds(models: Any, hyperparameters: Any) -> None:
    """Raises unless there are several models, and a dictionary for each."""
    if isinstance(models, nnx.Module) or not isinstance(models, Sequence):
        expected = "be a list of models, of which some may be the same"
        raise HyperparameterError("models", expected, models)
    if hyperparameters is None:
        return
    is_list = isinstance(hyperparameters, Sequence) and not isinstance(hyperparameters, str)
    if not is_list or not all(isinstance(each, Mapping) for each in hyperparameters):
        expected = 'be a list of dictionaries such as {"learning_rate": 0.1}'
        raise HyperparameterError("hyperparameters", expected, hyperparameters)


def _check_lengths(n: int, **lists: Sequence[Any] | None) -> None:
    """Raises unless there is one of each for each model."""
    if n == 0:
        raise NamedError("models is empty")
    for argument, values in lists.items():
        if values is not None and len(values) != n:
            raise HyperparameterError(
                argument, f"have one entry for each of the {n} models", len(values)
            )
