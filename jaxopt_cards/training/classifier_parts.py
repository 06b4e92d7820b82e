"""What the estimator needs beside the trainer: labels, blocks, optimizers by name, plain arrays."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.preprocessing import LabelEncoder

from jaxopt_cards import optimizers
from jaxopt_cards.core.checks import HyperparameterError, check_tx
from jaxopt_cards.core.errors import NamedError, NotFiniteError
from jaxopt_cards.storage.arrays import is_key
from jaxopt_cards.training import epoch_program
from jaxopt_cards.training.inputs import default_loss
from jaxopt_cards.training.outcome import told
from jaxopt_cards.training.prediction import outputs_of

# Rows that are predicted together. A power of two, so that each row of a block is computed by the
# same instructions; small, so that one row alone does not wait for many.
BLOCK = 256


def encoded(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Labels as positions in `classes`, which are sorted."""
    encoder = LabelEncoder()
    encoder.classes_ = classes
    return encoder.transform(y).astype(np.int32)


def with_weight(x: np.ndarray, labels: np.ndarray, weight: np.ndarray | None) -> tuple:
    """The examples, without those of weight 0; at the end their weights or `None`."""
    if weight is None:
        return x, labels, None
    kept = weight > 0
    if not kept.any():
        raise NamedError("all of sample_weight are 0: nothing is left to train on")
    return x[kept], labels[kept], weight[kept]


def rows_of(rows: Any, x: np.ndarray, labels: np.ndarray, weight: np.ndarray | None) -> tuple:
    """Some of the examples, as `fit` takes them: with their weights, if there are any."""
    return tuple(array[rows] for array in (x, labels, weight) if array is not None)


def validation_rows(
    labels: np.ndarray, fraction: float, random: np.random.RandomState
) -> np.ndarray:
    """Rows for the validation set: at random, in proportion to the classes, never all of a class.

    scikit-learn's stratified split refuses a class with one example, and a validation set smaller
    than the number of classes; here such classes may be missing in it, but not in training.
    """
    order = random.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]  # by class, at random within each
    _, firsts = np.unique(labels[order], return_index=True)
    rest = np.delete(order, firsts)
    size = min(len(rest), max(1, round(fraction * len(labels))))
    if size == 0:
        raise NamedError(
            "validation_fraction must leave an example of each class for training, "
            f"which n_samples={len(labels)} do not allow: set it to 0, or give fit valid=(X, y)",
        )
    # Evenly spaced over the classes, one after the other, so that each gives its share.
    return rest[((np.arange(size) + 0.5) * len(rest) / size).astype(int)]


def made_tx(
    optimizer: Any, learning_rate: Any, arguments: Mapping[str, Any]
) -> optax.GradientTransformation:
    """The transformation; one object for equal arguments, so that programs are compiled once."""
    known = optimizers.by_name()
    optimizer = known.get(optimizer, optimizer) if isinstance(optimizer, str) else optimizer
    if not callable(optimizer):
        expected = f"be a function of the learning rate or one of {list(known)}"
        raise HyperparameterError("optimizer", expected, optimizer)
    try:
        inspect.signature(optimizer).bind(learning_rate, **arguments)
    except TypeError as error:
        raise NamedError(
            f"the optimizer does not take optimizer_kwargs={arguments!r}: {error}"
        ) from None
    make: Callable[..., Any] = functools.partial(_made_once, optimizer)
    try:
        hash((optimizer, learning_rate, *arguments.values()))
    except TypeError:  # such as masks, which are trees
        make = optimizer
    tx = make(learning_rate, **arguments)
    check_tx("tx", tx)
    return tx


@functools.lru_cache(maxsize=256, typed=True)
def _made_once(optimizer: Callable[..., Any], learning_rate: Any, **arguments: Any) -> Any:
    return optimizer(learning_rate, **arguments)


def trained_once(
    model: nnx.Module,
    tx: optax.GradientTransformation,
    opt_state: optax.OptState | None,
    data: epoch_program.Data,
    batch_size: int,
    epochs: int,
    seed: int,
) -> tuple[nnx.Module, optax.OptState]:
    """The model and the optimizer's state after one more epoch, here over these examples."""
    program, arrays, _ = epoch_program.prepared(
        model, nnx.Param, default_loss, batch_size, epoch_program.Options()
    )
    run = epoch_program.first_run(program, arrays, tx)
    if opt_state is not None:
        if not _alike(opt_state, run.opt_state):
            raise NamedError(
                "optimizer must not change between calls of partial_fit: "
                "its state now has another structure; call fit to start again",
            )
        run = run._replace(opt_state=opt_state)
    # The number of the epoch sets the order. All in arrays of its own, since the compiled epoch
    # reuses them.
    run = jax.tree.map(jnp.copy, run._replace(epoch=jnp.int32(epochs)))
    one = epoch_program.Data(data.x[:1], data.y[:1])  # for validation, which is not used here
    run, measured = epoch_program.compiled_epoch()(
        program, tx, run, {}, data, one, jax.random.key(seed)
    )
    if not np.isfinite(measured.losses[0]):
        raise NotFiniteError(told(measured, epochs + 1, arrays.params))
    return epoch_program.merge(program.eval_graph, run.model, {}), run.opt_state


def _alike(state: Any, other: Any) -> bool:
    """Whether two trees have the same structure."""
    structure: Any = jax.tree.structure(state)
    return structure == jax.tree.structure(other)


def predicted(model: nnx.Module, x: np.ndarray) -> np.ndarray:
    """The outputs of a model in evaluation mode, where no row depends on the others."""
    return outputs_of(model, x, BLOCK)


def to_plain(tree: Any) -> Any:
    """The tree with NumPy arrays; JAX's random keys, which pickle themselves, stay."""
    return jax.tree.map(lambda leaf: leaf if is_key(leaf) else np.asarray(leaf), tree)


def from_plain(tree: Any) -> Any:
    """The tree with JAX arrays again."""
    return jax.tree.map(lambda leaf: leaf if is_key(leaf) else jnp.asarray(leaf), tree)
