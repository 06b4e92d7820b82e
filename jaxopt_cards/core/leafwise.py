"""Turns an equation on one array into a transformation of a tree."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards.core.abstract import is_abstract, owned, with_values
from jaxopt_cards.core.checks import NamedError, shown
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import named_stages
from jaxopt_cards.core.paths import listed, path_name, path_names
from jaxopt_cards.core.precision import (
    LeafMismatch,
    dtype_of,
    in_precision,
    is_inexact,
    is_still,
    one_leaf,
    unmoved,
)

PyTree = Any


class LeafwiseState(NamedTuple):
    """State of a transformation that names no state of its own."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    leaves: PyTree  # like the parameters; for each leaf what `init` returned


@declare(is_wrapper=True)
def leafwise(
    init: Callable[[jax.Array], Any],
    update: Callable[[jax.Array, Any, Any, Any], tuple[jax.Array, Any]],
    state_type: type = LeafwiseState,
    *,
    needs_params: bool = False,
) -> optax.GradientTransformation:
    r"""Turns an equation on one array into a transformation of a tree.

    Write `init` and `update` for a single array, as the paper does. `leafwise` walks the tree,
    counts the steps, lets `None` and `optax.MaskedNode` leaves pass, and minds the precision. The
    equation is computed in float32 at least. The state keeps the shapes and dtypes that `init` gave
    it (for float16 and bfloat16 parameters, float32). The update has the wider dtype of gradient
    and parameter, as in Optax. It has the gradient's dtype if the caller gave no parameters, and
    for an equation without state that does not need them.

    Leaves of integers, booleans and random keys have no gradient. They get no state
    (`optax.MaskedNode`), and an update of zero where their gradient is `float0` or of integers.

    Equation:
        .. math:: (u_i, s_i) \leftarrow \mathrm{update}(g_i, s_i, \theta_i, t)
            \quad\text{for each leaf } i

        with :math:`g_i` the gradient of leaf :math:`i`, :math:`u_i` its update, :math:`s_i` its
        state, :math:`\theta_i` its parameter, :math:`t` the number of the update from 1.

    Args:
        init: `init(param)` returns the state of one parameter: an array, or a tuple of them.
        update: `update(grad, state, param, step)` returns `(update, state)`. `step` is the number
            of this update, from 1, an int32 scalar; it is `None` if the state has no `count`.
            `param` is `None` if the caller gave no parameters.
        state_type: a NamedTuple class. One field may be `count`; the others take, in order, what
            `init` returns, each as a tree like the parameters: a single array for one field, a
            tuple for several, `()` for none. Default: `LeafwiseState`.
        needs_params: whether calling without parameters is an error.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `state_type`: what `init` returns for each parameter, and `count` where it has that field.

    Raises:
        ValueError: (at `init`) no parameter of floating point, or a leaf that is no array; (when
            updating) the state of another transformation, gradients unlike the state or the
            parameters in structure or shape, gradients of booleans, a gradient for a parameter of
            integers, or parameters missing. The message names the leaf.

    References:
        Roy Frostig, Matthew Johnson, Chris Leary (2018), Compiling machine learning programs via
        high-level tracing: `jax.example_libraries.optimizers`, the shape of `init` and `update`.

    Use when: the rule treats each array alone: nearly every optimizer.
    Avoid when: the rule looks at the tree as a whole, as `clip_by_global_norm` does.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> def sign_momentum(decay):
        ...     def init(param):
        ...         return jnp.zeros_like(param)
        ...     def update(grad, mean, param, step):
        ...         mean = decay * mean + (1 - decay) * grad
        ...         return jnp.sign(mean), mean
        ...     return jc.leafwise(init, update)
        >>> tx = jc.chain(sign_momentum(0.9), jc.scale_by_learning_rate(0.1))
        >>> params = {"w": jnp.array([1.0, -2.0])}
        >>> updates, state = tx.update(params, tx.init(params), params)
        >>> print(updates["w"])
        [-0.1  0.1]
    """
    name = _name(update)
    all_fields: tuple[str, ...] = state_type._fields  # type: ignore[attr-defined]
    fields, counted = [f for f in all_fields if f != "count"], "count" in all_fields
    single = len(fields) == 1
    # Jitted so that all leaves of one shape share a trace, and an eager update is one call a leaf.
    of_gradient = not fields and not needs_params
    equation = jax.jit(functools.partial(one_leaf, init, update, single, of_gradient))

    def to_state(count, rows, treedef):
        trees = {f: treedef.unflatten([row[i] for row in rows]) for i, f in enumerate(fields)}
        return state_type(**({"count": count} if counted else {}), **trees)

    def init_row(leaf, taken):
        if is_hole(leaf):
            return (leaf,) * len(fields)
        if not is_inexact(leaf):
            return (optax.MaskedNode(),) * len(fields)
        leaf = leaf if is_abstract(leaf) else jnp.asarray(leaf)
        taken[id(leaf)] = leaf
        state = with_values(lambda param: init(in_precision(32, param)), leaf)
        state = jax.tree.map(lambda array: owned(array, taken), state)
        row = (state,) if single else tuple(state)
        if len(row) != len(fields):
            raise NamedError(f"init must return {len(fields)} arrays, got {len(row)}")
        return row

    def init_tree(params):
        leaves, treedef = _flatten(params)
        _check_parameters(params, leaves)
        taken: dict[int, Any] = {}  # the arrays whose buffers are in use
        rows = [init_row(leaf, taken) for leaf in leaves]
        return to_state(jnp.zeros((), jnp.int32), rows, treedef)

    def update_leaf(grad, row, param, count):
        if is_hole(grad):
            return grad, row
        if is_still(grad, param) or any(isinstance(part, optax.MaskedNode) for part in row):
            return unmoved(grad, param), row
        return equation(jnp.asarray(grad), row, param, count)

    def update_tree(updates, state, params=None):
        if needs_params:
            check_params(params)
        if missing := [field for field in all_fields if not hasattr(state, field)]:
            got = f"{type(state).__name__}, which has no {missing[0]}"
            raise NamedError(f"state must be {state_type.__name__}, got {got}")
        grads, treedef = _flatten(updates)
        columns = [_leaves_like(updates, treedef, getattr(state, f), name, f) for f in fields]
        weights = [None] * len(grads)
        if params is not None:
            weights = _leaves_like(updates, treedef, params, name, "params")
        count = optax.safe_increment(state.count) if counted else None
        new_grads, new_rows = [], []
        for index, grad in enumerate(grads):
            try:
                row = tuple(column[index] for column in columns)
                new_grad, new_row = update_leaf(grad, row, weights[index], count)
            except LeafMismatch as mismatch:
                raise NamedError(f"{_at(updates, index)}{mismatch}") from None
            new_grads.append(new_grad)
            new_rows.append(new_row)
        return treedef.unflatten(new_grads), to_state(count, new_rows, treedef)

    return named_stages(name, optax.GradientTransformation(init_tree, update_tree))


def value_at(value: Any, step: Any, like: jax.Array) -> Any:
    """A hyperparameter in an equation's step, from 1: a number as it is, or its schedule's value.

    Schedules count from 0; their value has the dtype of the array it is for.
    """
    if not callable(value):
        return value
    scheduled = value(step - 1)
    if not hasattr(scheduled, "dtype") and not isinstance(scheduled, int | float):
        raise LeafMismatch(f"needs schedules that return a number, got {shown(scheduled)}")
    if jnp.size(scheduled) != 1:
        raise LeafMismatch(f"needs schedules that return a number, got {jnp.shape(scheduled)}")
    return jnp.asarray(scheduled, like.real.dtype).reshape(())


def check_params(params: Any) -> None:
    """Raises unless the caller of `update` gave the parameters."""
    if params is None:
        raise NamedError(
            "needs the parameters, got params=None: call update(updates, state, params)",
        )


def found_state(state: PyTree, state_type: type) -> Any:
    """The one state of a type inside the state of a chain."""
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, state_type))
    found = [leaf for leaf in leaves if isinstance(leaf, state_type)]
    if len(found) != 1:
        got = f"{len(found)} in {type(state).__name__}"
        raise NamedError(f"state must hold one {state_type.__name__}, got {got}")
    return found[0]


def is_hole(leaf: Any) -> bool:
    """Whether nothing stands here: `None`, or what `optax.masked` leaves in place of a leaf."""
    return leaf is None or isinstance(leaf, optax.MaskedNode)


def _name(update: Callable) -> str:
    """The public function in which the equation is written, for errors."""
    while isinstance(update, functools.partial):
        update = update.func
    named = update if hasattr(update, "__qualname__") else type(update)
    return named.__qualname__.split(".<locals>")[0]


def _flatten(tree: PyTree) -> tuple[list, Any]:
    """The leaves with the holes among them."""
    return jax.tree.flatten(tree, is_leaf=is_hole)


def _at(tree: PyTree, index: int) -> str:
    """Where a leaf is, for an error: nothing, if the tree is that leaf."""
    path = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_hole)[index][0]
    return f"at {path_name(path)} " if path else ""


def _check_parameters(params: PyTree, leaves: list) -> None:
    """Raises unless all leaves are arrays, and some of them can be trained."""
    dtypes = []
    for index, leaf in enumerate(leaves):
        try:
            dtypes.append(None if is_hole(leaf) else dtype_of(leaf))
        except TypeError:
            got = f"the parameter must be an array, got {shown(leaf)}"
            raise NamedError(f"{_at(params, index)}{got}") from None
    # Where a part is masked out, the rest may well be nothing but counters.
    if leaves and not any(d is None or jnp.issubdtype(d, jnp.inexact) for d in dtypes):
        got = f"the parameter must be of floating point, got {dtypes[0]}"
        raise NamedError(f"{_at(params, 0)}{got}, and no other one is")


def _leaves_like(updates: PyTree, treedef: Any, tree: PyTree, name: str, what: str) -> list:
    """The leaves of a tree that must have the structure of the updates."""
    try:
        return treedef.flatten_up_to(tree)
    except ValueError as error:
        got, expected = set(path_names(updates)), set(path_names(tree))
        raise NamedError(
            f"the updates are unlike {what}; only in the updates:"
            f"{listed(sorted(got - expected))}\nonly in {what}:{listed(sorted(expected - got))}\n"
            f"({error})",
        ) from None
