"""The host's part of training: epoch after epoch, until it no longer helps."""

import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_count, check_seed, check_tx
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError, NotFiniteError
from jaxopt_cards.core.paths import listed, path_names
from jaxopt_cards.core.warnings import warn
from jaxopt_cards.training import epoch_program
from jaxopt_cards.training.checkpoints import FitCheckpointer
from jaxopt_cards.training.devices import Layout, Rules, placed
from jaxopt_cards.training.frozen import Frozen
from jaxopt_cards.training.identity import identity
from jaxopt_cards.training.inputs import (
    check_model,
    check_model_fits,
    check_opt_state,
    default_loss,
    on_device,
)
from jaxopt_cards.training.progress import Reporter
from jaxopt_cards.training.termination import Termination

Loss = Callable[[jax.Array, jax.Array], jax.Array]
Regularizer = Callable[[Any], jax.Array]
Augment = Callable[[jax.Array, jax.Array], jax.Array]


class Options(NamedTuple):
    """What may be added to a plain epoch; the last fields of a `Program`."""

    regularizer: Regularizer | None = None
    augment: Augment | None = None
    plateau: optax.GradientTransformation | None = None
    batch_sharding: jax.sharding.Sharding | None = None


class History(NamedTuple):
    """What was measured in each epoch; arrays of shape (epochs,), float64."""

    train_loss: np.ndarray  # mean over the epoch, while the model changed
    valid_loss: np.ndarray
    valid_accuracy: np.ndarray  # in [0, 1]
    seconds: np.ndarray  # without compilation


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        model: the model as it was in the best epoch, in evaluation mode.
        history: `train_loss`, `valid_loss`, `valid_accuracy` (in [0, 1]) and `seconds` (validation
            included, compilation not), one number an epoch.
        best_epoch: the epoch of the least validation loss, from 1.
        stopped: why training ended: "epochs", "patience", or "not finite" (the training loss).
        compile_seconds: time to compile; near zero if the same was compiled before.
        trouble: where a training or validation loss was not finite, and what to try; else empty.
        last: the model after the last epoch, in evaluation mode; `None` from `fit_many`.
        opt_state: the optimizer's state after the last epoch, which goes with `last`.
    """

    model: nnx.Module
    history: History
    best_epoch: int
    stopped: str
    compile_seconds: float
    trouble: str = ""
    last: nnx.Module | None = None
    opt_state: optax.OptState = None

    @property
    def seconds(self) -> float:
        """Time of all epochs together, without compilation."""
        return float(self.history.seconds.sum())


@declare
def fit(
    model: nnx.Module,
    tx: optax.GradientTransformation,
    *,
    train: Sequence[Any],
    valid: Sequence[Any],
    batch_size: int = 32,
    epochs: int = 100,
    patience: int | None = None,
    seed: int = 0,
    loss: Loss = default_loss,
    regularizer: Regularizer | None = None,
    augment: Augment | None = None,
    plateau: optax.GradientTransformation | None = None,
    trainable: Any = nnx.Param,
    opt_state: optax.OptState | None = None,
    mesh: jax.sharding.Mesh | None = None,
    sharding: Rules | None = None,
    checkpoint_dir: str | os.PathLike | None = None,
    checkpoint_every: int = 5,
    progress: bool = True,
) -> FitResult:
    r"""Trains a Flax NNX model, and returns it as it was when the validation loss was least.

    An epoch is one compiled program: it shuffles, walks over all batches, measures on the
    validation set and keeps the best snapshot, with the data on the device. Equal programs (same
    kind of model, same `tx` object, same shapes) are compiled once in a process. The model given is
    not changed.

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
        tx: any gradient transformation, ours, Optax's, or a chain of both. The loss of the batch,
            penalty included, is given to it as `value`.
        train: pair (x, y) of arrays of the same length, or (x, y, weight) with a number >= 0 for
            each example. Only ratios of weights count. The loss of a batch is divided by its number
            of examples and the mean weight of all training examples, not by the sum of its own
            weights: so the weighted mean loss is minimised at every batch size.
        valid: pair (x, y), or (x, y, weight), for early stopping and the choice of the best epoch.
        batch_size: whole number > 0, at most the number of training examples. No example is
            dropped: the last batch of an epoch is filled up with others at weight zero, which only
            batch normalisation sees. Its loss is the mean over its own examples, as in PyTorch and
            Keras: in a short batch each counts for more, but the order is new in each epoch.
        epochs: whole number > 0; the most epochs to train.
        patience: whole number > 0; stop after so many epochs without a lower validation loss.
            Default: never. The chapter takes 20.
        seed: whole number >= 0; seed of the examples' order. The weights' seed is the model's.
        loss: `loss(outputs, labels)` returns one number an example. Default: cross entropy with
            integer labels.
        regularizer: function of the trained parameters, a tree, whose value is added to the loss of
            each batch: `layers.l2(1e-4)`. It is not in the history.
        augment: function of a random key and the inputs of a batch that returns the inputs to train
            on: `data.augment(shift=2)`.
        plateau: `reduce_on_plateau(...)`: performance scheduling. After each epoch it is given the
            validation loss, and its factor multiplies the updates of the next one: also those of
            `proximal_l1`, `max_norm` or `lookahead`, which then do only a part of what they should.
        trainable: NNX filter of what is trained; `transfer.freeze(pattern)` makes one. No gradient
            is computed and no optimizer state kept for other parameters.
        opt_state: the optimizer's state to begin with. To go on from another run, give its
            `FitResult.last` as the model and its `opt_state`, after `transfer.migrate_state` if
            other parameters are trained now. Default: a new one.
        mesh: a `jax.sharding.Mesh`, also over several hosts: each batch is spread over its first
            axis, and the losses are those of one device up to rounding.
        sharding: from regular expressions over the parameters' paths to `PartitionSpec`: how
            parameters and what the optimizer keeps of them lie on the mesh, such as
            `{"kernel": P(None, "model")}`. The rest lies whole on every device.
        checkpoint_dir: folder for checkpoints. If it holds one of the same run, training goes on
            from there to the same bits as without the interruption, or with a `RuntimeWarning` that
            names what differs if threads, devices, compiler options or the versions of JAX, Flax,
            Optax and this package are not those of the checkpoint; `epochs` and `patience` may
            differ, but what was trained already stays trained. After SIGTERM the epoch is ended and
            saved, and the process left with status 143 (`SystemExit`), unless a handler of yours
            is set or this is not the main thread. Before the first epoch, while data are checked or
            the program is compiled, nothing is to be saved, and it leaves as soon as that is done.
            A damaged checkpoint is set aside with a warning for the one before it.
        checkpoint_every: whole number > 0; epochs between checkpoints. The last epoch always has
            one. Each holds the best snapshot so far, so the best epoch needs none of its own: what
            a kill loses is trained again to the same bits.
        progress: bool; a progress bar on a terminal, a line now and then elsewhere.

    Returns:
        A `FitResult`: `model` (best epoch, evaluation mode), `history`, `best_epoch`, `stopped`,
        `compile_seconds`.

    State:
        On the device: parameters and other variables twice (current and best), the optimizer's
        state, and the data.

    Raises:
        ValueError: data empty, of unequal lengths or not finite; labels outside the model's
            classes; a number outside its range; nothing to train; a checkpoint of another run.
        OSError: a checkpoint could not be written (the last good one is kept), or none is whole.
        FloatingPointError: the validation loss was never finite. Where it was in some epoch, a
            `RuntimeWarning` says when it was not, and the best model returns. From the first
            training loss that is not finite on, nothing changes, and `last` and `opt_state` are
            what gave that loss: also under `skip_nonfinite`, whose place is in loops that go on.

    References:
        Lutz Prechelt (1998), Early Stopping – But When? Chapter 11, exercise 8.

    Use when: data fit on the device and an epoch has many small steps: no step returns to Python.
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
    with Termination(active=checkpoint_dir is not None) as termination:
        check_model(model)
        check_tx("tx", tx)
        train_data = on_device("fit", "train", train, weighted=True)
        valid_data = on_device("fit", "valid", valid, weighted=True)
        check_seed("seed", seed)
        check_settings(batch_size, epochs, patience, train_data.size)
        check_count("checkpoint_every", checkpoint_every)
        for what, examples in (("train", train_data), ("valid", valid_data)):
            check_model_fits(what, model, loss, examples)
        if checkpoint_dir is not None and jax.process_count() > 1:
            raise HyperparameterError("checkpoint_dir", "be None on several hosts", checkpoint_dir)
        if sharding and mesh is None:
            raise HyperparameterError("mesh", "be given where sharding is", mesh)

        layout = None if mesh is None else Layout("fit", mesh, sharding)
        rows = None if layout is None else layout.batch(batch_size)
        options = checked_options(Options(regularizer, augment, plateau, rows))
        program, arrays, frozen = prepared(model, trainable, loss, batch_size, options)
        check_trainable(trainable, arrays, frozen)
        run = epoch_program.first_run(program, arrays, tx)
        if opt_state is not None:
            check_opt_state(opt_state, run.opt_state)
            run = run._replace(opt_state=opt_state)
        given = (train_data, valid_data)
        run = jax.tree.map(jnp.copy, run)  # in arrays of its own: the compiled epoch reuses them
        relative = (data.relative() for data in given)
        inputs = (frozen, *relative, jax.random.key(seed))
        place = lambda run: run  # noqa: E731
        if layout:
            place = functools.partial(placed, shardings=layout.shardings(run, arrays.params))
            run, inputs = place(run), layout.replicated(inputs)
        started = time.perf_counter()
        compiled = epoch_program.compiled_epoch().lower(program, tx, run, *inputs).compile()
        compile_seconds = time.perf_counter() - started
        termination.leave()

        def ended(history: list[list[float]]) -> str:
            return stops(history, epochs, patience) or ("SIGTERM" if termination.asked else "")

        def one_epoch(run: epoch_program.Run) -> tuple[epoch_program.Run, epoch_program.Measured]:
            run, measured = compiled(run, *inputs)
            return place(run), measured

        about = (program, tx, run, inputs, given, (arrays, opt_state), seed)
        with (
            _checkpoints(checkpoint_dir, *about) as checkpoints,
            Reporter(epochs, shown=progress) as reporter,
        ):
            run, history, measured, stopped = _epochs(
                one_epoch, run, place, ended, checkpoints, checkpoint_every, reporter
            )
            if stopped == "SIGTERM":
                reporter.end(f"SIGTERM: leaves after epoch {len(history)}, which is saved")
            else:
                result = _result(program, run, frozen, history, stopped, compile_seconds, measured)
                reporter.end(_summary(result))
        # Not before the checkpoint is closed, whose errors an exit would hide.
        termination.leave()
    return result


def _epochs(
    one_epoch: Callable[[epoch_program.Run], tuple[epoch_program.Run, epoch_program.Measured]],
    run: epoch_program.Run,
    place: Callable[[epoch_program.Run], epoch_program.Run],
    ended: Callable[[list[list[float]]], str],
    checkpoints: Any,
    checkpoint_every: int,
    reporter: Reporter,
) -> tuple[epoch_program.Run, list[list[float]], epoch_program.Measured | None, str]:
    """Epoch after epoch, from the last checkpoint if there is one, until a reason to end."""
    history: list[list[float]] = []
    measured = None
    if checkpoints and (restored := checkpoints.restore(run)):
        _, run, history = restored
        run = place(run)
    stopped = ended(history)
    while not stopped:
        started = time.perf_counter()
        run, measured = one_epoch(run)
        losses = np.asarray(measured.losses, float).tolist()
        history.append([*losses, time.perf_counter() - started])
        reporter.epoch(len(history), *losses)
        # Once an epoch: a signal between two such questions would end it without a checkpoint.
        stopped = ended(history)
        if checkpoints and (stopped or len(history) % checkpoint_every == 0):
            checkpoints.save(len(history), run, history)
    return run, history, measured, stopped


def _result(
    program: epoch_program.Program,
    run: epoch_program.Run,
    frozen: Any,
    history: list[list[float]],
    stopped: str,
    compile_seconds: float,
    measured: epoch_program.Measured | None,
) -> FitResult:
    """What came of the epochs; says what was wrong, if the losses did not stay finite."""
    trouble = trouble_in(history, measured, run.model.params)
    if int(run.best_epoch) == 0:
        raise NotFiniteError(f"the validation loss was never finite. {trouble}")
    if trouble:
        warn(f"fit: {trouble}")
    return FitResult(
        model=epoch_program.merge(program.eval_graph, run.best, frozen),
        history=History(*np.array(history).T),
        best_epoch=int(run.best_epoch),
        stopped=stopped,
        compile_seconds=compile_seconds,
        trouble=trouble,
        last=epoch_program.merge(program.eval_graph, run.model, frozen),
        opt_state=run.opt_state,
    )


@declare
def evaluate(
    model: nnx.Module, x: Any, y: Any, *, weight: Any = None, loss: Loss = default_loss
) -> dict[str, float]:
    r"""Measures mean loss and accuracy of a model in evaluation mode.

    Runs in batches of 1,000, compiled once for each shape of the data. The model given is not
    changed.

    Equation:
        .. math:: \text{accuracy} =
            \frac{\sum_i w_i\, [\arg\max_c f(x_i)_c = y_i]}{\sum_i w_i}

    Args:
        model: any NNX module that maps a batch of inputs to outputs.
        x: inputs, shape (n, ...).
        y: labels, shape (n,).
        weight: numbers >= 0, shape (n,): both means are weighted. Default: 1 for each example.
        loss: as in `fit`.

    Returns:
        A dictionary with `loss` and `accuracy` (in [0, 1]; NaN where labels are no classes).

    Raises:
        ValueError: data empty, of unequal lengths, not finite, or labels outside the classes.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, exercise 8: accuracy on the test set.

    Use when: training is over; the test set is looked at once.
    Avoid when: choosing between models; `fit` has the validation loss already.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, training
        >>> model = layers.MLP(4, 3, rngs=nnx.Rngs(0))
        >>> sorted(training.evaluate(model, np.ones((2, 4)), np.array([0, 1])))
        ['accuracy', 'loss']
    """
    check_model(model)
    given = (x, y) if weight is None else (x, y, weight)
    examples = on_device("evaluate", "the data", given, weighted=weight is not None).relative()
    check_model_fits("the data", model, loss, examples)
    program, arrays, frozen = prepared(model, nnx.Param, loss, 1, Options())
    measured = epoch_program.measure(program, arrays, frozen, examples)
    return dict(zip(("loss", "accuracy"), map(float, measured), strict=True))


def prepared(
    model: nnx.Module, trainable: Any, loss: Loss, batch_size: int, options: Options
) -> tuple[epoch_program.Program, epoch_program.Arrays, Any]:
    """The program for a model, and the model's arrays in two parts: trained and frozen."""
    model = nnx.clone(model)
    model.eval()
    eval_graph, _, _ = epoch_program.split(model, trainable)
    model.train()
    if isinstance(trainable, Frozen):
        trainable.of(model).freeze_statistics(model)
    train_graph, arrays, frozen = epoch_program.split(model, trainable)
    program = epoch_program.Program(train_graph, eval_graph, trainable, loss, batch_size, *options)
    return program, arrays, frozen


def trouble_in(history: Any, measured: epoch_program.Measured | None, params: Any) -> str:
    """What to know of the losses of all epochs that are not finite; empty if there are none."""
    bad = [number for number, (_, loss, *_) in enumerate(history, 1) if not np.isfinite(loss)]
    trained = np.isfinite(history[-1][0])
    if trained and not bad:
        return ""
    broken = not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(params))
    if not trained or (broken and bad[-1] == len(history)):
        return told(measured, len(history), params)
    number, more = bad[0], len(bad) - 1
    also = f" and in {more} later one{'s' if more > 1 else ''}" if more else ""
    return (
        f"the validation loss is not finite in epoch {number}{also}, though the training loss is: "
        "look at the validation examples, or try a lower learning rate"
    )


def told(measured: epoch_program.Measured | None, epoch: int, params: Any) -> str:
    """What to know of a loss that is not finite: where it began, and what to try."""
    advice = "try a lower learning rate, or clip gradients"
    if measured is None:  # a run resumed after its end
        return f"the loss is not finite in epoch {epoch}: {advice}"
    if not measured.bad_step:  # the last step did it, whose loss was still finite
        return f"the weights are not finite after epoch {epoch}: {advice}"
    where = largest_weight(measured.largest, params)
    return (
        f"the loss is not finite since step {int(measured.bad_step)} of epoch {epoch}, where "
        f"{where}: {advice}"
    )


def largest_weight(largest: jax.Array, params: Any) -> str:
    """How large the weights of a failed step were, and in which layer."""
    sizes = np.asarray(largest)
    name = path_names(params)[int(np.argmax(sizes))]
    return f"the largest weight was {sizes.max():.3g}, in {name}"


def stops(history: list[list[float]], epochs: int, patience: int | None) -> str:
    """Why to stop after these epochs; empty if not."""
    if history and not np.isfinite(history[-1][0]):
        return "not finite"
    if patience and history:
        losses = [loss if np.isfinite(loss) else np.inf for _, loss, *_ in history]
        if len(losses) - 1 - int(np.argmin(losses)) >= patience:
            return "patience"
    return "epochs" if len(history) >= epochs else ""


def check_settings(batch_size: int, epochs: int, patience: int | None, examples: int) -> None:
    """Raises unless the numbers are such that there is something to do."""
    check_count("batch_size", batch_size)
    check_count("epochs", epochs)
    if patience is not None:
        check_count("patience", patience)
    if batch_size > examples:
        raise HyperparameterError(
            "batch_size", f"be at most the {examples} training examples", batch_size
        )


def checked_options(options: Options) -> Options:
    """The options, if they can be what they say."""
    for argument in ("regularizer", "augment"):
        value = getattr(options, argument)
        if value is not None and not callable(value):
            raise HyperparameterError(argument, "be a function", value)
    if options.plateau is not None and not _scales_by_value(options.plateau):
        expected = "be a transformation that scales by a value, such as reduce_on_plateau()"
        raise HyperparameterError("plateau", expected, options.plateau)
    return options


def _scales_by_value(plateau: Any) -> bool:
    """Whether its first factor is a positive number, made with a loss: no optimizer's is."""
    try:
        factor, _ = plateau.update(np.float32(1), plateau.init(np.float32(1)), value=np.float32(1))
        return bool(factor > 0)
    except (AttributeError, TypeError, ValueError):
        return False


def check_trainable(trainable: Any, arrays: epoch_program.Arrays, frozen: Any) -> None:
    """Raises unless the filter is one, and leaves something to train and to freeze."""
    paths = listed([*path_names(arrays.params), *path_names(frozen)])
    if isinstance(trainable, str):
        raise HyperparameterError(
            "trainable", "be an NNX filter, such as transfer.freeze(pattern)", trainable
        )
    if not jax.tree.leaves(arrays.params):
        raise NamedError(f"{trainable} leaves no parameter to train; there are{paths}")
    if isinstance(trainable, Frozen) and not jax.tree.leaves(frozen):
        raise NamedError(f"{trainable} matches none of the parameters{paths}")


def _checkpoints(directory: Any, *run: Any) -> Any:
    """The checkpoints in a folder, or a context that does nothing where there is no folder."""
    return nullcontext() if directory is None else FitCheckpointer(directory, identity(*run))


def _summary(result: FitResult) -> str:
    loss, accuracy = (column[result.best_epoch - 1] for column in result.history[1:3])
    epochs = len(result.history.seconds)
    return (
        f"best epoch {result.best_epoch} of {epochs}: validation loss {loss:.4f}, accuracy "
        f"{accuracy:.2%}; {result.seconds:.1f} s, and {result.compile_seconds:.1f} s to compile"
    )
