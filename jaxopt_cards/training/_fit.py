"""The host's part of training: epoch after epoch, until it no longer helps."""

import dataclasses
import os
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards._checks import HyperparameterError, check_count
from jaxopt_cards.selection import listed, path_names
from jaxopt_cards.training import _epoch
from jaxopt_cards.training._frozen import Frozen
from jaxopt_cards.training._inputs import (
    check_model,
    check_model_fits,
    check_tx,
    default_loss,
    on_device,
)
from jaxopt_cards.training._progress import Reporter

Loss = Callable[[jax.Array, jax.Array], jax.Array]

# One object: programs with a transformation of their own would be compiled each time.
_NO_STEP = optax.identity()


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
    """

    model: nnx.Module
    history: History
    best_epoch: int
    stopped: str
    compile_seconds: float

    @property
    def seconds(self) -> float:
        """Time of all epochs together, without compilation."""
        return float(self.history.seconds.sum())


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
    trainable: Any = nnx.Param,
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
            e^* = \arg\min_e \frac{1}{|V|} \sum_{(x, y) \in V} \ell(f_{\theta_e}(x), y)

        with :math:`\theta_e` the parameters after epoch :math:`e`, :math:`V` = `valid`,
        :math:`\ell` = `loss`.

    Args:
        model: any NNX module that maps a batch of inputs to outputs; batch statistics and dropout
            are carried along.
        tx: any gradient transformation, ours, Optax's, or a chain of both. The loss of the batch is
            given to it as `value`.
        train: pair (x, y) of arrays of the same length.
        valid: pair (x, y) for early stopping and the choice of the best epoch.
        batch_size: whole number > 0, at most the number of training examples. No example is
            dropped: the last batch of an epoch is filled up with others at weight zero, which only
            batch normalisation sees.
        epochs: whole number > 0; the most epochs to train.
        patience: whole number > 0; stop after so many epochs without a lower validation loss.
            Default: never. The chapter takes 20.
        seed: whole number >= 0; seed of the examples' order. The weights' seed is the model's.
        loss: `loss(outputs, labels)` returns one number an example. Default: cross entropy with
            integer labels.
        trainable: NNX filter of what is trained; `transfer.freeze(pattern)` makes one. No gradient
            is computed and no optimizer state kept for other parameters.
        checkpoint_dir: folder for checkpoints. If it holds one of the same run, training goes on
            from there to the same bits as without the interruption; `epochs` and `patience` may
            differ, but what was trained already stays trained.
        checkpoint_every: whole number > 0; epochs between checkpoints. The last epoch always has
            one.
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
        FloatingPointError: the validation loss was never finite.

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
    check_model("fit", model)
    check_tx("fit", tx)
    train, valid = on_device("fit", "train", train), on_device("fit", "valid", valid)
    check_count("fit", "seed", seed, least=0)
    _check_settings(batch_size, epochs, patience, checkpoint_every, len(train[1]))
    for what, examples in (("train", train), ("valid", valid)):
        check_model_fits("fit", what, model, loss, examples)

    program, arrays, frozen = _prepared(model, trainable, tx, loss, batch_size)
    _check_trainable(trainable, arrays, frozen)
    run = _first_run(arrays, tx)
    key = jax.random.key(seed)
    started = time.perf_counter()
    lowered = _epoch.train_epoch.lower(program, run, frozen, train, valid, key)
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - started

    history: list[list[float]] = []
    with (
        _checkpoints(checkpoint_dir, lowered, (train, valid, frozen, arrays), seed) as checkpoints,
        Reporter(epochs, shown=progress) as reporter,
    ):
        if checkpoints and (restored := checkpoints.restore(run)):
            run, history = restored
        while not (stopped := _stops(history, epochs, patience)):
            started = time.perf_counter()
            run, metrics = compiled(run, frozen, train, valid, key)
            measured = np.asarray(metrics, float).tolist()
            history.append([*measured, time.perf_counter() - started])
            reporter.epoch(len(history), *measured)
            if checkpoints and (
                len(history) % checkpoint_every == 0 or _stops(history, epochs, patience)
            ):
                checkpoints.save(len(history), run, history)

    if int(run.best_epoch) == 0:
        raise FloatingPointError(
            f"fit: the validation loss was never finite, and the training loss was "
            f"{history[-1][0]} in epoch {len(history)}: try a lower learning rate, or clip "
            "gradients"
        )
    result = FitResult(
        model=_epoch.merge(program.eval_graph, run.best, frozen),
        history=History(*np.array(history).T),
        best_epoch=int(run.best_epoch),
        stopped=stopped,
        compile_seconds=compile_seconds,
    )
    reporter.end(_summary(result))
    return result


def evaluate(model: nnx.Module, x: Any, y: Any, *, loss: Loss = default_loss) -> dict[str, float]:
    r"""Measures mean loss and accuracy of a model in evaluation mode.

    Runs in batches of 1,000, compiled once for each shape of the data. The model given is not
    changed.

    Equation:
        .. math:: \text{accuracy} = \frac{1}{n} \sum_i [\arg\max_c f(x_i)_c = y_i]

    Args:
        model: any NNX module that maps a batch of inputs to outputs.
        x: inputs, shape (n, ...).
        y: labels, shape (n,).
        loss: as in `fit`.

    Returns:
        A dictionary with `loss` and `accuracy` (in [0, 1]; NaN where labels are no classes).

    State:
        None.

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
    check_model("evaluate", model)
    examples = on_device("evaluate", "the data", (x, y))
    check_model_fits("evaluate", "the data", model, loss, examples)
    program, arrays, frozen = _prepared(model, nnx.Param, _NO_STEP, loss, 1)
    measured = _epoch.measure(program, arrays, frozen, examples)
    return dict(zip(("loss", "accuracy"), map(float, measured), strict=True))


def _prepared(
    model: nnx.Module, trainable: Any, tx: optax.GradientTransformation, loss: Loss, batch_size: int
) -> tuple[_epoch.Program, _epoch.Arrays, Any]:
    """The program for a model, and the model's arrays in two parts: trained and frozen."""
    model = nnx.clone(model)
    model.eval()
    eval_graph, _, _ = _epoch.split(model, trainable)
    model.train()
    train_graph, arrays, frozen = _epoch.split(model, trainable)
    return _epoch.Program(train_graph, eval_graph, trainable, tx, loss, batch_size), arrays, frozen


def _first_run(arrays: _epoch.Arrays, tx: optax.GradientTransformation) -> _epoch.Run:
    """A run before its first epoch, in arrays of its own, since the compiled epoch reuses them."""
    return _epoch.Run(
        epoch=jnp.zeros((), jnp.int32),
        model=jax.tree.map(jnp.copy, arrays),
        opt_state=jax.tree.map(jnp.copy, tx.init(arrays.params)),
        best=jax.tree.map(jnp.copy, arrays),
        best_loss=jnp.full((), jnp.inf, jnp.float32),
        best_epoch=jnp.zeros((), jnp.int32),
    )


def _stops(history: list[list[float]], epochs: int, patience: int | None) -> str:
    """Why to stop after these epochs; empty if not."""
    if history and not np.isfinite(history[-1][0]):
        return "not finite"
    if patience and history:
        losses = [np.inf if np.isnan(loss) else loss for _, loss, *_ in history]
        if len(losses) - 1 - int(np.argmin(losses)) >= patience:
            return "patience"
    return "epochs" if len(history) >= epochs else ""


def _check_settings(
    batch_size: int, epochs: int, patience: int | None, checkpoint_every: int, examples: int
) -> None:
    check_count("fit", "batch_size", batch_size)
    check_count("fit", "epochs", epochs)
    check_count("fit", "checkpoint_every", checkpoint_every)
    if patience is not None:
        check_count("fit", "patience", patience)
    if batch_size > examples:
        raise HyperparameterError(
            "fit", "batch_size", f"be at most the {examples} training examples", batch_size
        )


def _check_trainable(trainable: Any, arrays: _epoch.Arrays, frozen: Any) -> None:
    paths = listed([*path_names(arrays.params), *path_names(frozen)])
    if isinstance(trainable, str):
        raise HyperparameterError(
            "fit", "trainable", "be an NNX filter, such as transfer.freeze(pattern)", trainable
        )
    if not jax.tree.leaves(arrays.params):
        raise ValueError(f"fit: {trainable} leaves no parameter to train; there are{paths}")
    if isinstance(trainable, Frozen) and not jax.tree.leaves(frozen):
        raise ValueError(f"fit: {trainable} matches none of the parameters{paths}")


def _checkpoints(directory: Any, lowered: Any, inputs: tuple, seed: int) -> Any:
    """The checkpoints in a folder, or a context that does nothing where there is no folder."""
    if directory is None:
        return nullcontext()
    if Path(directory).exists() and not Path(directory).is_dir():
        raise HyperparameterError("fit", "checkpoint_dir", "be a folder", str(directory))
    # Orbax takes longer to import than a small run takes.
    from jaxopt_cards.training._checkpoints import Checkpoints, checksum

    train, valid, frozen, arrays = inputs
    identity = {
        "seed": int(seed),
        "training data (CRC-32)": checksum(train),
        "validation data (CRC-32)": checksum(valid),
        "frozen parameters (CRC-32)": checksum(frozen),
        "initial model (CRC-32)": checksum(arrays),
        # The program has the settings in it: kind of model, batch size, loss, learning rate.
        "program: model, optimizer, loss, batch size (CRC-32)": zlib.crc32(
            lowered.as_text().encode()
        ),
    }
    return Checkpoints(Path(directory), identity)


def _summary(result: FitResult) -> str:
    loss, accuracy = (column[result.best_epoch - 1] for column in result.history[1:3])
    epochs = len(result.history.seconds)
    return (
        f"best epoch {result.best_epoch} of {epochs}: validation loss {loss:.4f}, accuracy "
        f"{accuracy:.2%}; {result.seconds:.1f} s, and {result.compile_seconds:.1f} s to compile"
    )
