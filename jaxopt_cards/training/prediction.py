"""The outputs of a model in evaluation mode, batch by batch."""

import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jax
import numpy as np
from flax import nnx

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.training.epoch_program import EVALUATION_BATCH
from jaxopt_cards.training.inputs import check_model, check_range, numbers, outputs_for

PyTree = Any


@declare
def predict(
    model: nnx.Module, x: Any, *, batch_size: Annotated[int, "[1, inf)"] = EVALUATION_BATCH
) -> Any:
    r"""Runs a model over all inputs, in evaluation mode.

    Runs in batches, compiled once for each structure of a model and shape of a batch. A short last
    batch is filled up, so it needs no program of its own. `model` is not changed.

    Args:
        model: any NNX module that maps a batch of inputs to outputs.
        x: inputs, shape (n, ...): an array, or one that is mapped from a file.
        batch_size: number of inputs that are in memory at a time.

    Returns:
        A NumPy array of the outputs, such as logits, with a row for each input. If the model
        returns a tree of arrays, a tree of NumPy arrays.

    Raises:
        ValueError: no inputs, inputs that the model does not take, or outputs without a row for
            each input.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        10, "Using the Neural Network": the class of the highest logit.

    Use when: training is finished and you need the outputs themselves.
    Avoid when: you need only loss and accuracy; `evaluate` returns them.

    Example:
        >>> import numpy as np
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, training
        >>> model = layers.MLP(4, 3, rngs=nnx.Rngs(0))
        >>> logits = training.predict(model, np.ones((5, 4)))
        >>> logits.shape, logits.argmax(axis=1).shape
        ((5, 3), (5,))
    """
    check_model(model)
    try:
        x = numbers(x)
    except (TypeError, ValueError):
        raise NamedError(f"x must be an array of numbers, got {type(x).__name__}") from None
    if x.ndim == 0 or len(x) == 0:
        raise NamedError(f"x is empty: it has the shape {x.shape}")
    check_range("x", x)
    shapes = [part.shape for part in jax.tree.leaves(outputs_for("x", model, x))]
    if not shapes or any(shape[:1] != (1,) for shape in shapes):
        raise NamedError(f"the outputs must have a row for each input, got for one {shapes}")
    return outputs_of(model, x, min(batch_size, len(x)))


def outputs_of(model: nnx.Module, x: Any, batch_size: int) -> Any:
    """The outputs in evaluation mode for inputs that are known to fit."""
    model = nnx.clone(model)
    model.eval()
    graph, state = nnx.split(model)
    parts = batches(functools.partial(_outputs, graph), state, x, batch_size)
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def batches(
    run: Callable[[Any, Any], PyTree], state: Any, x: Any, batch_size: int
) -> Iterator[PyTree]:
    """What `run(state, rows)` gives, as NumPy arrays; all batches have one shape, filled up."""
    for start in range(0, len(x), batch_size):
        rows = x[start : start + batch_size]
        count = len(rows)
        if count < batch_size:
            rows = np.concatenate([rows, np.repeat(rows[-1:], batch_size - count, axis=0)])
        outputs = run(state, rows)
        yield jax.tree.map(lambda part, count=count: np.asarray(part)[:count], outputs)


@functools.partial(jax.jit, static_argnums=0)
def _outputs(graph: nnx.GraphDef, state: Any, x: jax.Array) -> Any:
    model: Any = nnx.merge(graph, state)
    return model(x)
