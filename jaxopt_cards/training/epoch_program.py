"""The compiled part of training: everything that happens in one epoch, as one program.

A model is split once into its graph and its arrays; in here there are only trees of arrays. Three
kinds are kept apart: the parameters that are trained, those that are frozen (no gradient, no
optimizer state, never copied), and the other variables, which the forward pass itself may change
(batch statistics, the counters of dropout) and which the loop therefore carries.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jaxopt_cards.training import points
from jaxopt_cards.training.frozen import Frozen

PyTree = Any

EVALUATION_BATCH = 1000  # rows at a time, so that activations of large sets need not fit at once
_ONE = np.ones((), np.float32)


class Program(NamedTuple):
    """What an epoch is compiled for. Equal programs share the compiled code."""

    train_graph: nnx.GraphDef
    eval_graph: nnx.GraphDef
    trainable: Any  # NNX filter, as `filter_of` returns it for the model
    loss: Callable[[jax.Array, jax.Array], jax.Array]
    batch_size: int
    regularizer: Callable[[PyTree], jax.Array] | None = None  # of the trained parameters
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None  # of a key and inputs
    plateau: optax.GradientTransformation | None = None  # scales updates by the validation loss
    batch_sharding: Any = None  # of the rows of a batch
    evaluated: points.Evaluated | None = None  # which parameters are measured and kept
    evaluate_every: int | None = None  # steps; else after each epoch


class Options(NamedTuple):
    """What may be added to a plain epoch: the last fields of a `Program`."""

    regularizer: Callable[[PyTree], jax.Array] | None = None
    augment: Callable[[jax.Array, jax.Array], jax.Array] | None = None
    plateau: optax.GradientTransformation | None = None
    batch_sharding: Any = None
    evaluated: points.Evaluated | None = None
    evaluate_every: int | None = None


class Data(NamedTuple):
    """Examples on the device."""

    x: jax.Array
    y: jax.Array
    weight: jax.Array | None = None  # of each example, float32; a weight of 1 is that of no weights
    rows: jax.Array | None = None  # which examples these are; all, if `None`

    @property
    def size(self) -> int:
        """How many examples these are."""
        return len(self.y if self.rows is None else self.rows)

    def numbers(self, order: jax.Array) -> jax.Array:
        """Positions among these examples as rows of the arrays."""
        return order if self.rows is None else self.rows[order]

    def relative(self) -> "Data":
        """With weights whose mean over these examples is 1."""
        if self.weight is None:
            return self
        chosen = self.weight if self.rows is None else self.weight[self.rows]
        largest = jnp.max(chosen)  # the sum of weights themselves may be infinite
        return self._replace(weight=self.weight / largest / jnp.mean(chosen / largest))


class Arrays(NamedTuple):
    """The arrays of a model that training changes."""

    params: PyTree  # the trained parameters
    variables: PyTree  # all that is no parameter


class Run(NamedTuple):
    """All that changes from one epoch to the next; what a checkpoint holds."""

    epoch: jax.Array  # shape (), int32: epochs done
    model: Arrays
    opt_state: optax.OptState
    plateau: tuple  # the factor of all updates, float32, and the state that moves it; or empty
    best: Arrays  # as they were when the validation loss was least
    best_loss: jax.Array  # shape (), float32
    best_epoch: jax.Array  # shape (), int32, from 1; 0: none yet
    steps: Any = ()  # `by_steps.Steps`, where evaluations are counted in steps


class Measured(NamedTuple):
    """The measurements of one epoch; of several evaluations with one more axis."""

    losses: jax.Array  # shape (3,), float32: training loss, validation loss and accuracy
    bad_step: jax.Array  # shape (), int32: the first step, from 1, whose loss is not finite; or 0
    largest: jax.Array  # shape (leaves,), float32: largest weights, at that step if there is one
    steps: Any = ()  # shape (evaluations,), int32: after which they were; 0: there was none


class Order(NamedTuple):
    """The batches of an epoch."""

    rows: jax.Array  # shape (steps, batch size), int32
    weights: jax.Array  # shape (steps, batch size), float32: of the losses; the sum is their mean
    size: jax.Array  # shape (steps, 1), float32: examples of each batch
    noise: jax.Array  # the random key of augmentation


def split(model: nnx.Module, trainable: Any) -> tuple[nnx.GraphDef, Arrays, PyTree]:
    """The graph, the arrays that training changes, and the frozen parameters."""
    graph, *states = nnx.split(model, trainable, nnx.Param, ...)
    params, frozen, variables = (nnx.to_pure_dict(state) for state in states)
    return graph, Arrays(params, variables), frozen


def prepared(
    model: nnx.Module, trainable: Any, loss: Callable, batch_size: int, options: Options
) -> tuple[Program, Arrays, PyTree]:
    """The program for a model, and the model's arrays in two parts: trained and frozen."""
    model = nnx.clone(model)
    model.eval()
    eval_graph, _, _ = split(model, trainable)
    model.train()
    if isinstance(trainable, Frozen):
        trainable.freeze_statistics(model)
    train_graph, arrays, frozen = split(model, trainable)
    program = Program(train_graph, eval_graph, trainable, loss, batch_size, *options)
    return program, arrays, frozen


def merge(graph: nnx.GraphDef, arrays: Arrays, frozen: PyTree) -> nnx.Module:
    """The model again; a copy, which belongs to the trace that calls it."""
    return nnx.merge(graph, arrays.params, frozen, arrays.variables, copy=True)


def first_run(program: Program, arrays: Arrays, tx: optax.GradientTransformation) -> Run:
    """A run before its first epoch."""
    plateau = () if program.plateau is None else (_ONE, program.plateau.init(_ONE))
    return Run(
        epoch=jnp.zeros((), jnp.int32),
        model=arrays,
        opt_state=points.first_state(tx, arrays.params),
        plateau=plateau,
        best=arrays,
        best_loss=jnp.full((), jnp.inf, jnp.float32),
        best_epoch=jnp.zeros((), jnp.int32),
    )


def one_epoch(
    program: Program,
    tx: optax.GradientTransformation,
    run: Run,
    frozen: PyTree,
    train: Data,
    valid: Data,
    key: jax.Array,
    *,
    side_by_side: bool = False,
) -> tuple[Run, Measured]:
    """Trains on every example once, in a new order, then measures on the validation set.

    The loss of a batch of m examples is the sum of weight times loss, divided by m. Dividing
    by the sum of the batch's weights instead would cancel the weights at batch size 1, so that the
    minimum would depend on the batch size.
    """
    rows, weights, size, noise = order_of(program, run, train, key)
    steps = jnp.arange(1, len(rows) + 1, dtype=jnp.int32)
    step = functools.partial(
        one_step, program, tx, run.plateau, frozen, train, noise, side_by_side=side_by_side
    )
    start = (run.model, run.opt_state, jnp.zeros((), jnp.int32))
    (model, opt_state, bad_step), losses = jax.lax.scan(step, start, (steps, rows, weights))
    train_loss = losses @ size[:, 0].astype(losses.dtype) / jnp.sum(size)
    shown = evaluated(program, model, opt_state)
    valid_loss, valid_accuracy = measure(program, shown, frozen, valid)
    measured = jnp.stack([train_loss.astype(jnp.float32), valid_loss, valid_accuracy])
    told = Measured(measured, bad_step, largest(model.params))
    run = run._replace(model=model, opt_state=opt_state)
    return kept(program, run, shown, valid_loss, bad_step == 0), told


def order_of(program: Program, run: Run, train: Data, key: jax.Array) -> Order:
    """The new order of the examples in the run's epoch, in batches."""
    key = jax.random.fold_in(key, run.epoch)
    # One sort of random bits. `jax.random.permutation` sorts twice, to be exact even where two of
    # the 32-bit numbers coincide; that took 3 % of the time of an epoch of MNIST.
    order = jnp.argsort(jax.random.bits(key, (train.size,)))
    positions, weights = in_batches(order, program.batch_size)
    rows = train.numbers(positions)
    size = jnp.sum(weights, axis=1, keepdims=True)
    weights /= size
    if train.weight is not None:
        weights *= train.weight[rows]
    # The order has used the key itself.
    return Order(rows, weights, size, jax.random.fold_in(key, len(rows)))


def evaluated(program: Program, model: Arrays, opt_state: optax.OptState) -> Arrays:
    """The model that is measured and kept, while training goes on from `model`."""
    chosen = points.evaluation_point(program.evaluated, model.params, opt_state)
    return model._replace(params=chosen)


def one_step(
    program: Program,
    tx: optax.GradientTransformation,
    plateau: tuple,
    frozen: PyTree,
    train: Data,
    key: jax.Array,
    carry: tuple,
    batch: tuple,
    *,
    halts: bool = True,
    side_by_side: bool = False,
) -> tuple[tuple, jax.Array]:
    """One batch.

    With `halts`, nothing changes from the first loss that is not finite: weights, statistics and
    optimizer state stay as they were when it was computed, for the error message. Without `halts`,
    the transformation decides how such a loss updates weights and state; batch statistics are not
    updated. `side_by_side` says that this is one of many runs under `vmap`.
    """
    arrays, opt_state, bad_step = carry
    step, rows, weights = batch
    x, y = train.x[rows], train.y[rows]
    if program.batch_sharding is not None:
        x, y = jax.lax.with_sharding_constraint((x, y), program.batch_sharding)
    if program.augment is not None:
        x = program.augment(jax.random.fold_in(key, step), x)

    def batch_loss(params: PyTree) -> tuple[jax.Array, tuple[jax.Array, PyTree]]:
        model = merge(program.train_graph, arrays._replace(params=params), frozen)
        loss = program.loss(model(x), y) @ weights
        penalty = program.regularizer(params) if program.regularizer else 0.0
        return loss + penalty, (loss, split(model, program.trainable)[1].variables)

    point = points.gradient_point(arrays.params, opt_state, *plateau[:1])
    (total, (loss, variables)), grads = jax.value_and_grad(batch_loss, has_aux=True)(point)
    tx = optax.with_extra_args_support(tx)
    told = points.told(lambda params: batch_loss(params)[0], arrays.params, opt_state, total, grads)

    def updated(params: PyTree, opt_state: PyTree) -> tuple[PyTree, PyTree]:
        updates, opt_state = points.update(tx, grads, opt_state, params, told)
        if plateau:
            updates = jax.tree.map(lambda u: u * plateau[0].astype(u.dtype), updates)
        # `finite` is true in the branch, but a choice keeps the rounding of the sum unchanged.
        if halts and not side_by_side:
            updates = _chosen(finite, updates, jax.tree.map(jnp.zeros_like, updates))
        return optax.apply_updates(params, updates), opt_state

    finite = jnp.isfinite(loss)
    bad_step = jnp.where((bad_step == 0) & ~finite, step, bad_step)
    if halts:
        finite = bad_step == 0
        old = (arrays.params, opt_state, arrays.variables)
        if side_by_side:  # `vmap` would turn a branch into choices, also of all its inputs
            new = (*updated(arrays.params, opt_state), variables)
            params, opt_state, variables = _chosen(finite, new, old)
        else:  # a choice between old and new arrays would copy the moments
            params, opt_state, variables = jax.lax.cond(
                finite, lambda p, s, _: (*updated(p, s), variables), lambda *old: old, *old
            )
    else:
        params, opt_state = updated(arrays.params, opt_state)
        variables = _chosen(finite, variables, arrays.variables)
    return (Arrays(params, variables), opt_state, bad_step), loss


def _chosen(condition: jax.Array, one: PyTree, other: PyTree) -> PyTree:
    """The one tree if the condition is true, and the other if it is false."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def nothing_measured(params: PyTree) -> Measured:
    """What is known before the first epoch."""
    leaves = len(jax.tree.leaves(params))
    return Measured(jnp.zeros(3, jnp.float32), jnp.zeros((), jnp.int32), jnp.zeros(leaves))


def largest(params: PyTree) -> jax.Array:
    """The largest magnitude in each leaf, NaN counting as infinite."""
    sizes = [jnp.max(jnp.abs(leaf), initial=0.0) for leaf in jax.tree.leaves(params)]
    return jnp.nan_to_num(jnp.stack(sizes).astype(jnp.float32), nan=jnp.inf, posinf=jnp.inf)


def kept(program: Program, run: Run, shown: Arrays, valid_loss: jax.Array, whole: jax.Array) -> Run:
    """The run after an epoch, which may have halted, with the best snapshot so far."""
    plateau = run.plateau
    if program.plateau is not None:
        plateau = program.plateau.update(_ONE, plateau[1], value=valid_loss)
        plateau = _chosen(whole, plateau, run.plateau)
    epoch = run.epoch + 1
    better = (valid_loss < run.best_loss) & jnp.isfinite(valid_loss)
    measured = (shown, valid_loss, epoch)
    old = (run.best, run.best_loss, run.best_epoch)
    best, best_loss, best_epoch = _chosen(better, measured, old)
    return run._replace(
        epoch=epoch, plateau=plateau, best=best, best_loss=best_loss, best_epoch=best_epoch
    )


def compiler_options() -> dict[str, Any]:
    """Options of XLA for compiling epochs.

    On a CPU, vectors may be as wide as the hardware's: by default XLA uses half the width of
    AVX-512, and an epoch of Géron's network takes 15 % longer. Other backends lack this option.
    """
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}


@functools.cache  # since an import must not choose the backend
def compiled_epoch(function: Callable[..., tuple[Run, Measured]] = one_epoch) -> Any:
    """An epoch, to be compiled; it reuses the arrays of the run."""
    return jax.jit(
        function,
        static_argnums=(0, 1),
        donate_argnums=2,
        compiler_options=compiler_options(),
    )


@functools.partial(jax.jit, static_argnums=0)
def measure(
    program: Program, arrays: Arrays, frozen: PyTree, examples: Data
) -> tuple[jax.Array, jax.Array]:
    """Mean loss and accuracy of the model in evaluation mode; weights must be `relative`."""
    x, y, n = examples.x, examples.y, examples.size

    def of_batch(_: None, batch: tuple) -> tuple[None, tuple[jax.Array, jax.Array]]:
        rows, weights = batch
        outputs = merge(program.eval_graph, arrays, frozen)(x[rows])
        losses = program.loss(outputs, y[rows])
        return None, (losses @ weights, _correct(outputs, y[rows]) @ weights)

    positions, weights = in_batches(jnp.arange(n), min(EVALUATION_BATCH, n))
    numbers, weights = examples.numbers(positions), weights / n
    if examples.weight is not None:
        weights *= examples.weight[numbers]
    _, (losses, correct) = jax.lax.scan(of_batch, None, (numbers, weights))
    # In float32 whatever the loss, as the run keeps them from epoch to epoch.
    return jnp.sum(losses).astype(jnp.float32), jnp.sum(correct).astype(jnp.float32)


def in_batches(order: jax.Array, batch_size: int) -> tuple[jax.Array, jax.Array]:
    """Cuts an order of rows into batches: row numbers, and 1 for each row that counts.

    The last batch, if short, is filled up from the beginning with rows of weight 0. So no example
    is dropped, and every batch has one shape.
    """
    n = len(order)
    rows = jnp.resize(order, (-(-n // batch_size), batch_size))
    real = (jnp.arange(rows.size) < n).reshape(rows.shape).astype(jnp.float32)
    return rows, real


def _correct(outputs: Any, labels: jax.Array) -> jax.Array:
    """Which rows have their highest output at their label; NaN where labels are no classes."""
    if (
        not isinstance(outputs, jax.Array)
        or outputs.ndim != 2
        or outputs.shape[1] < 2
        or labels.ndim != 1
        or not jnp.issubdtype(labels.dtype, jnp.integer)
    ):
        return jnp.full(len(labels), jnp.nan)
    kind = labels.dtype if labels.dtype.itemsize == 8 else jnp.int32  # in which no label is cut
    predicted = jnp.argmax(outputs, axis=1).astype(kind)
    return (predicted == labels.astype(kind)).astype(jnp.float32)
