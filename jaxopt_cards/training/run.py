"""`fit`: trains epoch by epoch on the device, with early stopping."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_seed
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NotFiniteError
from jaxopt_cards.core.warnings import warn
from jaxopt_cards.training import by_steps, epoch_program
from jaxopt_cards.training.checkpoints import Checkpoints, FitCheckpointer, as_checkpoints
from jaxopt_cards.training.devices import Placement, as_placement, placed
from jaxopt_cards.training.frozen import filter_of
from jaxopt_cards.training.identity import identity
from jaxopt_cards.training.inputs import (
    check_model,
    check_model_fits,
    check_opt_state,
    on_device,
)
from jaxopt_cards.training.outcome import FitResult, history_of, stops, summary, trouble_in
from jaxopt_cards.training.progress import Reporter
from jaxopt_cards.training.settings import (
    FIT,
    FitSettings,
    check_batch_size,
    check_evaluate_every,
    check_trainable,
    options,
)
from jaxopt_cards.training.termination import Termination


class _Start(NamedTuple):
    """A run before its first epoch, and all that its epochs are given."""

    program: epoch_program.Program
    tx: optax.GradientTransformation
    run: epoch_program.Run
    inputs: tuple  # frozen parameters, training and validation data, random key
    place: Callable[[epoch_program.Run], epoch_program.Run]  # lays a run on the devices
    identity: Callable[[], dict[str, Any]]  # what a checkpoint must match


REFUSED = {
    "checkpoint_dir": "be given as checkpoints=directory",
    "checkpoint_every": "be given as checkpoints=Checkpoints(directory, every)",
    "mesh": "be given as placement=mesh",
    "sharding": "be given as placement=Placement(mesh, sharding)",
}


@declare(settings=FIT, refused=REFUSED)
def fit(
    model: nnx.Module,
    tx: optax.GradientTransformation,
    *,
    train: Sequence[Any],
    valid: Sequence[Any],
    opt_state: optax.OptState | None = None,
    checkpoints: Checkpoints | str | Path | None = None,
    placement: Placement | jax.sharding.Mesh | None = None,
    **settings: Unpack[FitSettings],
) -> FitResult:
    r"""Trains a Flax NNX model and returns it as it was when the validation loss was lowest.

    An epoch is one compiled program, with the data on the device: it shuffles, takes a step on each
    batch, measures the validation set (or does so every `evaluate_every` steps) and keeps the best
    snapshot. Equal programs (same kind of model, same `tx` object, same shapes) are compiled once
    in a process. `model` is not changed.

    Equation:
        .. math:: \theta^* = \theta_{e^*}, \qquad
            e^* = \arg\min_e \sum_{i \in V} \frac{w_i\, \ell(f_{\theta_e}(x_i), y_i)}
                {|V|\, \bar{w}_V}, \qquad
            \ell_B(\theta) = \sum_{i \in B} \frac{w_i\, \ell(f_\theta(x_i), y_i)}
                {|B|\, \bar{w}_T}

        with :math:`\theta_e` the parameters after epoch :math:`e`, :math:`V` = `valid`,
        :math:`\ell` = `loss`, :math:`\ell_B` the loss of a batch, :math:`w_i` the weight of an
        example, :math:`\bar{w}_T` the mean weight of `train`.

    Args:
        model: any NNX module that maps a batch of inputs to outputs; batch statistics and dropout
            are carried along.
        tx: any gradient transformation, ours, Optax's, or a chain of both. The gradient is measured
            at the parameters, but for `scale_by_true_nesterov` ahead of them, at `nesterov_point`.
            The transformation is given, by name, what some ask for: `value`, the loss of the batch
            where the gradient is, penalty included; `grad`; and `value_fn` (or `obj_fn`) and
            `grad_fn`, which measure the same batch at other points: for line searches, `sam` in
            opaque mode, `sophia`. Those that need something else are refused.
        train: pair (x, y) of arrays of the same length, or (x, y, weight) with a number >= 0 for
            each example. Only ratios of weights count. The loss of a batch is divided by its number
            of examples and the mean weight of all training examples, not by the sum of its own
            weights: so the weighted mean loss is minimised at every batch size.
        valid: pair (x, y), or (x, y, weight), for early stopping and the choice of the best epoch.
        batch_size: int in [1, inf), at most the number of training examples; 32 by default. No
            example is dropped: the last batch of an epoch is filled up with other examples at
            weight zero, which only batch normalisation sees. Its loss is the mean over its own
            examples, as in PyTorch and Keras, so each of them counts for more; the order is new in
            each epoch.
        epochs: int in [1, inf); the largest number of epochs. Default: 100.
        patience: int in [1, inf); stop after this many evaluations (so, by default, epochs) without
            a lower validation loss. Default: never. Exercise 8 of Géron's chapter 11 takes 20.
        evaluate_every: int in [1, inf); steps from one evaluation to the next, counted through all
            epochs. Evaluations then take the place of epochs for `patience`, `plateau`, the best
            snapshot and `history`, and a run may end in the middle of an epoch.
            `evaluate_every=50, patience=40` is Géron's "every 50 steps, until 2,000 have passed
            without a new best". Default: once, after each epoch.
        seed: int in [0, inf); seed of the order of the examples, 0 by default. The model has its
            own seed for its weights.
        loss: `loss(outputs, labels)` returns one number per example. Default: cross entropy with
            integer labels.
        regularizer: function of the tree of trained parameters, whose value is added to the loss of
            each batch, such as `layers.l2(1e-4)`. The history does not include it. Default: none.
        augment: function of a random key and the inputs of a batch, which returns the inputs to
            train on, such as `data.augment(shift=2)`. Default: none.
        plateau: `reduce_on_plateau(...)`: performance scheduling. It is given the validation loss
            of each evaluation, and its factor multiplies all updates until the next, including
            those of `proximal_l1`, `max_norm` and `lookahead`, which then do only part of their
            work. Default: none.
        trainable: which parameters are trained: a regular expression over their paths, a tree of
            bools, a function from parameters to such a tree, or an NNX filter such as
            `transfer.freeze(mask)`. No gradient is computed and no optimizer state kept for the
            others. Default: all.
        evaluated: function of the parameters and the optimizer's state that returns the parameters
            to measure on `valid`, to stop by and to return as `model`, such as
            `lambda params, state: optax.tree.get(state, "average")` with `polyak_average`. Training
            goes on from the parameters themselves, which are in `last`. Default: what the
            optimizer is made for: the slow weights of `lookahead`, the averages of Optax's
            `schedule_free`, else the parameters.
        progress: bool, true by default; show a progress bar on a terminal, a line every few seconds
            elsewhere.
        opt_state: the state of the optimizer to start with. To continue another run, pass its
            `FitResult.last` as the model and its `opt_state`, after `transfer.migrate_state` if
            other parameters are trained now. Default: a new state.
        checkpoints: a folder, or `Checkpoints(folder, every=5)`. An interrupted run continues from
            its last checkpoint, and its results are bit-identical to those of an uninterrupted one.
        placement: a `jax.sharding.Mesh`, or `Placement(mesh, sharding)`, to spread the run over
            several devices.

    Returns:
        A `FitResult`: `model` (best evaluation, evaluation mode), `history`, `best_epoch`,
        `best_step`, `stopped`, `compile_seconds`.

    State:
        On the device: parameters and other variables twice (current and best), the state of the
        optimizer, and the data.

    Raises:
        ValueError: data that are empty, of unequal lengths or not finite; labels outside the
            classes of the model; a number outside its range; nothing to train; checkpoints of
            another run; a transformation that needs another kind of loop, such as `dpsgd`, Optax's
            `lookahead`, and `sam` unless in opaque mode.
        OSError: a checkpoint could not be written (the last good one is kept), or none can be read.
        FloatingPointError: the validation loss was never finite. If it was finite in some epoch,
            the best model is returned, and a `RuntimeWarning` says when it was not. Nothing changes
            after the first training loss that is not finite, also under `skip_nonfinite`: `last`
            and `opt_state` are what gave that loss.

    References:
        Lutz Prechelt (1998), Early Stopping – But When? Géron (2017), chapter
        11, exercise 8.

    Use when: data fit on the device, and an epoch has many small steps, none of which needs Python.
    Avoid when: data do not fit on the device, or each step needs the host.

    Example:
        >>> import jaxopt_cards as jc
        >>> from flax import nnx
        >>> from jaxopt_cards import data, layers, training
        >>> train, valid, test = data.digits()
        >>> result = training.fit(
        ...     layers.MLP(64, 10, rngs=nnx.Rngs(0)), jc.adam(1e-3),
        ...     train=train, valid=valid, epochs=5, progress=False,
        ... )
        >>> training.evaluate(result.model, *test)["accuracy"] > 0.8
        True
    """
    checkpoints = as_checkpoints(checkpoints)
    with Termination(active=checkpoints is not None) as termination:
        if checkpoints is not None and jax.process_count() > 1:
            expected = "be None on several hosts"
            raise HyperparameterError("checkpoints", expected, checkpoints.directory)
        start = _start(model, tx, train, valid, opt_state, as_placement(placement), settings)
        started = time.perf_counter()
        epoch = by_steps.compiled_epoch(start.program)
        compiled = epoch.lower(start.program, start.tx, start.run, *start.inputs).compile()
        compile_seconds = time.perf_counter() - started
        termination.leave()

        def ended(history: list[list[float]], run: epoch_program.Run) -> str:
            reason = stops(history, settings["epochs"], settings["patience"], int(run.epoch))
            return reason or ("SIGTERM" if termination.asked else "")

        with (
            _opened(checkpoints, start) as saved,
            Reporter(settings["epochs"], shown=settings["progress"]) as reporter,
        ):
            every = checkpoints.every if checkpoints else 0
            run, history, measured, stopped = _epochs(
                compiled, start, ended, saved, every, reporter
            )
            if stopped == "SIGTERM":
                reporter.end(f"SIGTERM: leaves after epoch {int(run.epoch)}, which is saved")
            else:
                result = _result(start, run, history, stopped, compile_seconds, measured)
                reporter.end(summary(result))
        # Not before the checkpoint is closed, whose errors an exit would hide.
        termination.leave()
    return result


def _start(
    model: nnx.Module,
    tx: optax.GradientTransformation,
    train: Sequence[Any],
    valid: Sequence[Any],
    opt_state: optax.OptState | None,
    placement: Placement | None,
    settings: Mapping[str, Any],
) -> _Start:
    """Checks the arguments, and puts arrays on the device."""
    check_model(model)
    given = (
        on_device("train", train, weighted=True),
        on_device("valid", valid, weighted=True),
    )
    batch_size, seed, loss = settings["batch_size"], settings["seed"], settings["loss"]
    check_seed("seed", seed)
    check_batch_size(batch_size, given[0].size)
    for what, examples in zip(("train", "valid"), given, strict=True):
        check_model_fits(what, model, loss, examples)
    rows = None if placement is None else placement.batch(batch_size)
    trainable = filter_of(settings["trainable"], model)
    program, arrays, frozen = epoch_program.prepared(
        model, trainable, loss, batch_size, options(settings, rows)
    )
    check_trainable(settings["trainable"], trainable, arrays, frozen)
    run = epoch_program.first_run(program, arrays, tx)
    if program.evaluate_every:
        run = run._replace(steps=by_steps.first_steps())
    if opt_state is not None:
        check_opt_state(opt_state, run.opt_state)
        run = run._replace(opt_state=opt_state)
    run = jax.tree.map(jnp.copy, run)  # copies, since the compiled epoch donates its arguments
    inputs = (frozen, *(data.relative() for data in given), jax.random.key(seed))
    if program.evaluate_every:
        check_evaluate_every(program.evaluate_every, settings["epochs"], _steps(program, inputs))
        patience = settings["patience"] or np.iinfo(np.int32).max
        inputs = (*inputs, jnp.int32(patience))
    place = _unchanged
    if placement:
        place = functools.partial(placed, shardings=placement.shardings(run, arrays.params))
        run, inputs = place(run), placement.replicated(inputs)
    same = functools.partial(identity, program, tx, run, inputs, given, (arrays, opt_state), seed)
    return _Start(program, tx, run, inputs, place, same)


def _unchanged(run: epoch_program.Run) -> epoch_program.Run:
    return run


def _opened(checkpoints: Checkpoints | None, start: _Start) -> Any:
    """The checkpoints in a folder, or a context that does nothing where there is no folder."""
    if checkpoints is None:
        return nullcontext()
    return FitCheckpointer(checkpoints.directory, start.identity())


def _epochs(
    compiled: Callable[..., tuple[epoch_program.Run, epoch_program.Measured]],
    start: _Start,
    ended: Callable[[list[list[float]], epoch_program.Run], str],
    checkpoints: Any,
    checkpoint_every: int,
    reporter: Reporter,
) -> tuple[epoch_program.Run, list[list[float]], epoch_program.Measured | None, str]:
    """Epoch after epoch, from the last checkpoint if there is one, until a reason to end."""
    run, history, measured, seconds = start.run, [], None, 0.0
    if checkpoints and (restored := checkpoints.restore(run)):
        _, run, history = restored
        run = start.place(run)
    stopped = ended(history, run)
    while not stopped:
        started = time.perf_counter()
        run, measured = compiled(run, *start.inputs)
        run = start.place(run)
        jax.block_until_ready(measured)
        seconds += time.perf_counter() - started
        if rows := by_steps.rows_of(measured, seconds):
            history.extend(rows)
            reporter.epoch(int(run.epoch), *rows[-1][:3], *rows[-1][4:])
            seconds = 0.0  # of an epoch without an evaluation: part of the next one's
        # Once an epoch: a signal between two checks would end the run without a checkpoint.
        stopped = ended(history, run)
        if checkpoints and (stopped or int(run.epoch) % checkpoint_every == 0):
            checkpoints.save(int(run.steps.done if run.steps else run.epoch), run, history)
    return run, history, measured, stopped


def _steps(program: epoch_program.Program, inputs: tuple) -> int:
    """How many steps an epoch has."""
    return -(-inputs[1].size // program.batch_size)


def _result(
    start: _Start,
    run: epoch_program.Run,
    history: list[list[float]],
    stopped: str,
    compile_seconds: float,
    measured: epoch_program.Measured | None,
) -> FitResult:
    """The result of the epochs; warns if losses were not finite."""
    steps = _steps(start.program, start.inputs)
    told = history_of(history, steps)
    trouble = trouble_in(told, measured, run.model.params)
    if int(run.best_epoch) == 0:
        raise NotFiniteError(f"the validation loss was never finite. {trouble}")
    if trouble:
        warn(f"fit: {trouble}")
    merged = functools.partial(
        epoch_program.merge, start.program.eval_graph, frozen=start.inputs[0]
    )
    return FitResult(
        model=merged(run.best),
        history=told,
        best_epoch=int(run.best_epoch),
        stopped=stopped,
        compile_seconds=compile_seconds,
        trouble=trouble,
        last=merged(run.model),
        opt_state=run.opt_state,
        best_step=int(run.steps.best_step if run.steps else steps * run.best_epoch),
    )
