"""Probes: norms by layer, recorded inside the compiled step."""

from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_cards.core.abstract import is_placeholder
from jaxopt_cards.core.checks import check_params
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.moments import abs_sq
from jaxopt_cards.core.paths import path_name, path_names
from jaxopt_cards.core.precision import in_precision, is_inexact


class ProbeState(NamedTuple):
    """State of `probe`."""

    inner_state: optax.OptState
    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    every: jax.Array  # shape (), int32: updates from one record to the next
    squares: dict[str, jax.Array]  # by layer: shape (last, 3), float32, a ring of records


class Probes(NamedTuple):
    """What `read_probes` returns of one layer; arrays of shape (steps,), oldest first."""

    step: np.ndarray  # int: number of the update, from 1
    gradient: np.ndarray  # norm of the incoming gradient
    update: np.ndarray  # norm of the outgoing update
    ratio: np.ndarray  # norm of the update over norm of the parameters


@declare(needs_params=True, elementwise=True, is_wrapper=True)
def probe(
    inner: optax.GradientTransformation,
    last: Annotated[int, "[1, inf)"] = 100,
    every: Annotated[int, "[1, inf)"] = 10,
) -> optax.GradientTransformationExtraArgs:
    r"""Records the norms of gradients and updates, layer by layer, every few steps.

    A layer is all leaves whose paths differ only in the last part, such as `hidden1/kernel` and
    `hidden1/bias`. The records stay on the device until `read_probes` is called. Updates and inner
    state are those of `inner`. Optax's `snapshot` and `monitor` keep one measurement of one stage;
    this keeps a window of records of what goes in and what comes out.

    Equation:
        .. math:: \lVert g^{(l)} \rVert_2, \qquad \lVert u^{(l)} \rVert_2, \qquad
            \frac{\lVert u^{(l)} \rVert_2}{\lVert \theta^{(l)} \rVert_2}
            \qquad\text{for each layer } l

        with :math:`g^{(l)}` the gradient of layer :math:`l`, :math:`u^{(l)}` its update,
        :math:`\theta^{(l)}` its parameters.

    Args:
        inner: the transformation to watch, preferably the whole chain, so that updates are steps.
        last: number of records to keep.
        every: number of steps from one record to the next, beginning with the first. A record
            computes the update of `inner` a second time, and the sums.

    State:
        `ProbeState`: `inner_state`, `count` and `every` (int32), and for each layer three float32
        numbers per record.

    Raises:
        ValueError: `inner` is no transformation, an argument outside its range; (when updating) no
            parameters.

    References:
        Xavier Glorot, Yoshua Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks. Géron (2017), chapter 11, "Vanishing/Exploding Gradients
        Problems".

    Use when: training stalls or explodes: a healthy ratio is about 0.001, alike in all layers.
    Avoid when: layers are tiny: the sums then cost as much as the step; or many runs are trained
        under one `vmap`: then every step costs as much as a record.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.probe(jc.sgd(0.1), last=10)
        >>> params = {"hidden1": {"kernel": jnp.full((1, 1), 4.0), "bias": jnp.full(1, 3.0)}}
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> layer = jc.read_probes(state)["hidden1"]
        >>> print(layer.gradient, layer.update, layer.ratio.round(3))
        [5.] [0.5] [0.1]
    """
    inner = optax.with_extra_args_support(inner)

    def init(params):
        squares: Any = {layer: jnp.zeros((last, 3), jnp.float32) for layer in _layers(params)}
        if is_placeholder(params):  # the record does not have the structure of the parameters
            squares = jnp.zeros(())
        return ProbeState(
            inner.init(params), jnp.zeros((), jnp.int32), jnp.array(every, jnp.int32), squares
        )

    def update(updates, state, params=None, **extra_args):
        check_params(params)

        def recorded():
            # Computed again: to use the returned update, every step would write it to memory.
            new_updates, _ = inner.update(updates, state.inner_state, params, **extra_args)
            # Always true: otherwise XLA fuses the update into the sums, which is ten times slower.
            return jax.lax.cond(state.count >= 0, summed, lambda _: state.squares, new_updates)

        def summed(new_updates):
            row = state.count // every % last
            trees = [_layers(tree) for tree in (updates, new_updates, params)]
            return {
                layer: squares.at[row].set(jnp.stack([_square(tree.get(layer)) for tree in trees]))
                for layer, squares in state.squares.items()
            }

        squares = jax.lax.cond(state.count % every == 0, recorded, lambda: state.squares)
        new_updates, inner_state = inner.update(
            _after(squares, state.count, updates), state.inner_state, params, **extra_args
        )
        count = optax.safe_increment(state.count)
        return new_updates, ProbeState(inner_state, count, state.every, squares)

    return optax.GradientTransformationExtraArgs(init, update)


@declare
def read_probes(state: optax.OptState) -> dict[str, Probes]:
    r"""Reads the records of `probe`: a table for each layer, oldest step first.

    Waits for the device; call it between epochs, not between steps.

    Args:
        state: the state of `probe`, or one that contains it, such as that of a chain.

    Returns:
        From layers to `Probes`: `step`, `gradient`, `update` and `ratio`, arrays of shape (steps,).
        With several probes, the name of a layer follows the path of its probe in `state`, as in
        `1/inner_state/hidden1`.

    Raises:
        ValueError: the state has none of `probe`.

    References:
        Xavier Glorot, Yoshua Bengio (2010), Understanding the difficulty of training deep
        feedforward neural networks.

    Use when: a run with `probe` is over, or to look in between.
    Avoid when: inside a compiled function: the numbers are not known there.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> state = jc.probe(jc.sgd(0.1)).init({"hidden1": {"kernel": jnp.ones((2, 2))}})
        >>> jc.read_probes(state)["hidden1"].step
        array([], dtype=int64)
    """
    found = dict(_found(state, ""))
    if not found:
        got = f"0 in {type(state).__name__}"
        raise NamedError(f"state must hold one ProbeState, got {got}")
    if len(found) == 1:
        return _read(*found.values())
    tables = {path: _read(probed) for path, probed in found.items()}
    return {
        f"{path}/{layer}".strip("/"): probes
        for path, table in tables.items()
        for layer, probes in table.items()
    }


def _found(state: Any, at: str) -> Iterator[tuple[str, ProbeState]]:
    """All states of `probe`, also nested ones, with their paths in the state."""

    def is_probe(node):
        return isinstance(node, ProbeState)

    for path, node in jax.tree_util.tree_leaves_with_path(state, is_leaf=is_probe):
        if is_probe(node):
            where = f"{at}/{path_name(path)}".strip("/")
            yield where, node
            yield from _found(node.inner_state, f"{where}/inner_state")


def _read(probed: ProbeState) -> dict[str, Probes]:
    """The table of each layer."""
    every = int(probed.every)
    done = -(-int(probed.count) // every)
    read = {}
    for layer, squares in probed.squares.items():
        window = len(squares)
        steps = np.arange(max(done - window, 0), done)
        gradient, update, param = np.sqrt(np.asarray(squares)[steps % window]).T
        with np.errstate(divide="ignore", invalid="ignore"):  # parameters may all be zero
            read[layer] = Probes(steps * every + 1, gradient, update, update / param)
    return read


def _layers(tree: Any) -> dict[str, list[jax.Array]]:
    """The leaves by layer: the path without its last part, or a lone leaf's own path."""
    layers: dict[str, list[jax.Array]] = {}
    for path, leaf in zip(path_names(tree), jax.tree.leaves(tree), strict=True):
        if is_inexact(leaf):
            layers.setdefault(path.rpartition("/")[0] or path, []).append(leaf)
    return layers


def _after(squares: dict[str, jax.Array], count: jax.Array, updates: Any) -> Any:
    """The same updates, which for the compiler depend on the record.

    Weights and state can then change in place, since nothing reads the old ones afterwards.
    Otherwise XLA copies them in every step, for the few steps in which the record reads them. An
    `optimization_barrier` does not prevent that; a condition that never holds does.
    """
    never = (count < 0) & jnp.array([table[0, 0] > 0 for table in squares.values()]).any()

    def hung(update):
        return jnp.where(never, jnp.zeros_like(update), update) if is_inexact(update) else update

    return jax.tree.map(hung, updates)


def _square(leaves: list[jax.Array] | None) -> jax.Array:
    """The sum of all squares, at least in float32; zero for a layer without gradients."""
    if leaves is None:
        return jnp.zeros(())
    wide = [in_precision(32, jnp.asarray(leaf)) for leaf in leaves]
    return jnp.stack([jnp.sum(abs_sq(leaf)).astype(jnp.float32) for leaf in wide]).sum()
