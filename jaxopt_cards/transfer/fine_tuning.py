"""Fine-tuning: first the head, then all layers, with smaller rates for lower layers."""

import dataclasses
import functools
import re
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict, Unpack

import jax
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_seed
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError, names_kept
from jaxopt_cards.core.paths import listed, path_name, path_names, variable_names
from jaxopt_cards.core.warnings import warn
from jaxopt_cards.layers import MLP
from jaxopt_cards.optimizers.adam import adam
from jaxopt_cards.training import FitResult, History, fit
from jaxopt_cards.training.checkpoints import Checkpoints, as_checkpoints
from jaxopt_cards.training.frozen import Frozen
from jaxopt_cards.training.inputs import check_model, on_device
from jaxopt_cards.training.points import Evaluated
from jaxopt_cards.training.run import REFUSED
from jaxopt_cards.training.settings import FIT, STEP, Augment, Loss, Regularizer
from jaxopt_cards.training.termination import Termination
from jaxopt_cards.transfer.unfreezing import UnfreezeSchedule, migrate_state, unfreeze_schedule
from jaxopt_cards.wrappers.layerwise import layerwise_decay

MakeTx = Callable[[Any], optax.GradientTransformation]


class FineTuneSettings(TypedDict, total=False):
    """The arguments of `fit` that all stages share; described there."""

    batch_size: Annotated[int, "[1, inf)"]
    seed: int
    loss: Loss
    regularizer: Regularizer | None
    augment: Augment | None
    evaluated: Evaluated | None
    plateau: optax.GradientTransformation | None
    placement: Any
    progress: bool
    evaluate_every: Annotated[int, "[1, inf)"] | None


_SETTINGS = {
    key: FIT[key]
    for key in ("batch_size", "seed", "plateau", "progress", "evaluate_every", *STEP)
    if key != "trainable"
}
_REFUSED = {
    "trainable": "be left out",
    "patience": "be left out",
    "opt_state": "be left out",
}


@declare(settings=_SETTINGS | {"placement": None}, refused=REFUSED | _REFUSED)
def fine_tune(
    model: nnx.Module,
    make_tx: MakeTx = adam,
    *,
    train: Sequence[Any],
    valid: Sequence[Any],
    epochs: Annotated[int, "[1, inf)"],
    freeze_epochs: Annotated[int, "[1, inf)"] = 1,
    base_lr: Annotated[float, "(0, inf)"] = 2e-3,
    lr_mult: Annotated[float, "[1, inf)"] = 100.0,
    head: str = "logits",
    order: Sequence[str] | None = None,
    schedule: UnfreezeSchedule | None = None,
    checkpoints: Checkpoints | str | Path | None = None,
    **settings: Unpack[FineTuneSettings],
) -> FitResult:
    r"""Fine-tunes a pretrained network: first its head, then all layers at discriminative rates.

    First, only the head is trained, at `base_lr`. Then all layers are trained: the top layer at
    half of `base_lr`, the lowest at a rate `lr_mult` times smaller, and those in between at rates
    of a geometric series. Each stage is a cycle of warm-up and cosine decay. Defaults and cycles
    are fastai's, without its cycle of Adam's momentum, and suit thousands of steps. For a few
    hundred steps, raise `base_lr` and lower `lr_mult`. The optimizer's moments are kept between
    stages.

    Equation:
        .. math:: \eta^{(l)}_t = \eta_t\, m^{-(L - l) / (L - 1)}

        with :math:`m` = `lr_mult`, :math:`L` the number of layers, :math:`l = 1` the lowest,
        :math:`\eta_t` the cycle's rate.

    Args:
        model: NNX module with a new head, as from `replace_head`; not changed.
        make_tx: function from a schedule to an optimizer, such as `adam` or a `functools.partial`
            of `adamw`. Pass the same function in repeated calls to share compiled programs.
        train: as in `fit`.
        valid: as in `fit`.
        epochs: number of epochs after the `freeze_epochs`.
        freeze_epochs: number of epochs in which only the head is trained.
        base_lr: the highest rate of the first stage.
        lr_mult: the ratio of the top layer's rate to the lowest layer's.
        head: regular expression over paths; the parameters to train first.
        order: regular expressions over paths, from the bottom to the top; each parameter matches
            one, as in `layerwise_decay`. Default: the layers of an `MLP`.
        schedule: `unfreeze_schedule(...)`, to unfreeze layers step by step. Its last stage must
            start before `epochs`, which is then the number of all epochs. `freeze_epochs` and
            `head` are not used.
        checkpoints: as in `fit`, but all arguments must be the same to resume; each stage has a
            subfolder, `stage0`, `stage1`, …. SIGTERM is handled between stages, too.
        settings: `batch_size`, `loss`, `regularizer`, `augment`, `evaluated`, `evaluate_every`
            (counted from the start of each stage), `plateau`, `placement` and `progress` as in
            `fit`; `seed`, from which the order of the examples in each stage is derived.

    Returns:
        A `FitResult` of all stages together; its `model` is the best of all stages. If a later
        stage diverges, it has the results of the stages before, with `stopped` "not finite",
        `trouble` and a `RuntimeWarning`.

    State:
        That of `fit`, for one stage at a time.

    Raises:
        ValueError: a number is outside its range; `order` is missing and the model is not an `MLP`;
            or as in `fit`.
        FloatingPointError: no validation loss of the first stage was finite.

    References:
        Jeremy Howard, Sylvain Gugger (2020), fastai: A Layered API for Deep Learning. Géron (2017),
        chapter 11, "Tweaking, Dropping, or Replacing the Upper Layers".

    Use when: you have a network trained on a similar task, and a small data set.
    Avoid when: the lower layers should not change; use `freeze` or `cache_features`.

    Example:
        >>> from flax import nnx
        >>> from jaxopt_cards import data, layers, transfer
        >>> train, valid, test = data.digits()
        >>> model = layers.MLP(64, 10, units=(30, 30), rngs=nnx.Rngs(0))  # as if it were trained
        >>> result = transfer.fine_tune(model, train=train, valid=valid, epochs=2, progress=False)
        >>> len(result.history.valid_loss)
        3
    """
    checkpoints = as_checkpoints(checkpoints)
    with Termination(active=checkpoints is not None) as termination:
        check_model(model)
        _check_functions(make_tx, schedule)
        shared: dict[str, Any] = {**settings, "train": train, "valid": valid}
        check_seed("seed", shared["seed"])
        if schedule is None:
            schedule = unfreeze_schedule({0: head, freeze_epochs: ""})
            epochs += freeze_epochs
        size = on_device("train", train, weighted=True).size
        lengths = _lengths(schedule, epochs)
        # Each stage counts its epochs from 0; its order of examples must differ.
        seeds = [shared["seed"] * len(lengths) + stage for stage in range(len(lengths))]
        check_seed("seed times the number of stages", seeds[-1])
        steps = -(-size // shared["batch_size"])  # of an epoch
        cycles = [(length * steps, base_lr / 2) for length in lengths]
        cycles[0] = (cycles[0][0], base_lr)
        layers = _order(model, order)
        decay = float(lr_mult) ** (-1 / max(len(layers) - 1, 1))
        names = tuple(sorted(set(variable_names(model).values())))
        masks = Frozen(tuple(mask for _, mask in schedule.stages)).of(model).masks
        results: list[FitResult] = []
        for stage, trainable in enumerate(_filters(schedule, model)):
            termination.leave()
            tx = _optimizer(make_tx, tuple(cycles), masks[: stage + 1], decay, layers, names)
            start, opt_state = _start(model, tx, results, trainable)
            shared |= {"epochs": lengths[stage], "seed": seeds[stage], "trainable": trainable}
            shared |= {"checkpoints": checkpoints and checkpoints.part(f"stage{stage}")}
            try:
                result = fit(start, tx, opt_state=opt_state, **shared)
            except FloatingPointError as error:
                if not results:
                    raise
                return _without_stage(results, lengths, stage, error)
            results.append(result)
            if result.stopped == "not finite":
                break
    return _together(results, lengths)


def _start(
    model: nnx.Module, tx: optax.GradientTransformation, results: list[FitResult], trainable: Any
) -> tuple[Any, optax.OptState | None]:
    """The model and the optimizer's state with which a stage starts."""
    if not results:
        return model, None
    last = results[-1].last
    params = nnx.to_pure_dict(nnx.state(last, trainable))
    return last, migrate_state(results[-1].opt_state, tx.init(params))


def _check_functions(make_tx: Any, schedule: Any) -> None:
    """Raises unless `make_tx` is a function and `schedule` an `UnfreezeSchedule`."""
    if not callable(make_tx) or not isinstance(make_tx, Hashable):
        raise HyperparameterError(
            "make_tx",
            "be a function from a rate to an optimizer: adam, not adam(1e-3)",
            make_tx,
        )
    if not isinstance(schedule, UnfreezeSchedule | None):
        raise HyperparameterError("schedule", "be made by unfreeze_schedule", schedule)


def _lengths(schedule: UnfreezeSchedule, epochs: int) -> list[int]:
    """The number of epochs of each stage."""
    starts = [start for start, _ in schedule.stages]
    if starts[-1] >= epochs:
        raise HyperparameterError("epochs", f"be more than {starts[-1]}", epochs)
    return np.diff([*starts, epochs]).tolist()


def _filters(schedule: UnfreezeSchedule, model: nnx.Module) -> list[Any]:
    """The filters of the stages; raises if a stage adds no parameters."""
    names = path_names(nnx.state(model, nnx.Param))
    filters: list[Any] = []
    before = 0
    for start, mask in schedule.stages:
        trainable = schedule(start).of(model)
        trained = sum(not trainable.freezes(name) for name in names)
        if trained == before:
            raise NamedError(
                f"{mask!r} adds no parameter in epoch {start}; there are{listed(names)}",
            )
        before = trained
        filters.append(nnx.Param if trained == len(names) else trainable)
    return filters


@functools.lru_cache(maxsize=64)  # one object for equal runs, which then share compiled programs
def _optimizer(
    make_tx: MakeTx,
    cycles: tuple[tuple[int, float], ...],
    masks: tuple[str, ...],  # of the stages, each a regular expression
    decay: float,
    order: tuple[str, ...],
    names: tuple[tuple[str, ...], ...],
) -> optax.GradientTransformation:
    """The optimizer of the last of these stages, for parameters with these paths.

    The parameters added in one stage have their own state and count of steps: Adam's bias
    correction for new moments would be wrong with the count of other parameters.
    """
    begins = np.cumsum([0, *(steps for steps, _ in cycles)]).tolist()
    rates = optax.join_schedules(
        [_cycle(*cycle, first=not stage) for stage, cycle in enumerate(cycles)], begins[1:-1]
    )

    def of_stage(begin: int) -> optax.GradientTransformation:
        def rate(count: Any) -> Any:
            with jax.numpy_dtype_promotion("standard"):  # Optax's schedule mixes bool and float
                return rates(count + begin)

        with names_kept():
            return make_tx(rate)

    def joined(params: Any) -> Any:
        """The stage that added each parameter: the first that matches one of its paths."""
        paths = {path: places for places in names for path in places}

        def one(path: Any, _: Any) -> int:
            places = paths[path_name(path)]
            found = (any(re.search(pattern, p) for p in places) for pattern in masks)
            return [*found].index(True)

        return jax.tree_util.tree_map_with_path(one, params)

    parts = {stage: of_stage(begins[stage]) for stage in range(len(masks))}
    return layerwise_decay(optax.partition(parts, joined), decay, order)


def _cycle(steps: int, peak: float, *, first: bool) -> optax.Schedule:
    """Fastai's cycles: that of the head is mostly warm-up, later ones are mostly cosine decay."""
    warm_up, div = (0.99, 25.0) if first else (0.3, 5.0)
    return optax.cosine_onecycle_schedule(
        steps, peak, pct_start=warm_up, div_factor=div, final_div_factor=1e5 / div
    )


def _order(model: nnx.Module, order: Any) -> tuple[str, ...]:
    """The patterns of the layers; for an `MLP`, with their normalisation and activation."""
    if order is None and isinstance(model, MLP):
        return (*(rf"^hidden{index}[_/]" for index in range(1, model.depth + 1)), "^logits[_/]")
    if not isinstance(order, list | tuple) or not all(isinstance(layer, str) for layer in order):
        names = path_names(nnx.state(model, nnx.Param))
        raise HyperparameterError(
            "order",
            f"list patterns of the layers from the bottom to the top; the paths are {names}",
            order,
        )
    return tuple(order)


def _without_stage(
    results: list[FitResult], lengths: list[int], stage: int, error: Exception
) -> FitResult:
    """The result of the stages before one without a finite validation loss, with a warning."""
    trouble = f"stage {stage} failed; the result is that of the stages before it: {error}"
    warn(f"fine_tune: {trouble}")
    whole = _together(results, lengths)
    return dataclasses.replace(
        whole, stopped="not finite", trouble=" ".join(filter(None, [whole.trouble, trouble]))
    )


def _together(results: list[FitResult], lengths: list[int]) -> FitResult:
    """Combines the results of consecutive stages of so many epochs."""
    losses = [result.history.valid_loss[result.best_row] for result in results]
    best = int(np.argmin(losses))
    before = np.cumsum([0, *lengths]).tolist()
    histories = [
        _after(result.history, begin) for result, begin in zip(results, before, strict=False)
    ]
    steps = results[best].best_step + _steps(results[best].history) * before[best]
    return FitResult(
        model=results[best].model,
        history=History(*map(np.concatenate, zip(*histories, strict=True))),
        best_epoch=before[best] + results[best].best_epoch,
        stopped=results[-1].stopped,
        compile_seconds=sum(result.compile_seconds for result in results),
        trouble=" ".join(result.trouble for result in results if result.trouble),
        last=results[-1].last,
        opt_state=results[-1].opt_state,
        best_step=steps,
    )


def _steps(history: History) -> int:
    """How many steps an epoch has."""
    return round(history.step[0] / history.epoch[0])


def _after(history: History, epochs: int) -> History:
    """The history of a stage that begins after so many epochs."""
    step = history.step + _steps(history) * epochs
    return history._replace(step=step, epoch=history.epoch + epochs)
