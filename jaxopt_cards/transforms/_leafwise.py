"""Turns an equation on one array into a transformation of a tree."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards._named_errors import NamedError, named_stages, wrapper_named_in_errors
from jaxopt_cards.selection import listed, path_name, path_names

PyTree = Any


class LeafwiseState(NamedTuple):
    """State of a transformation that names no state of its own."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    leaves: PyTree  # like the parameters; for each leaf what `init` returned


@wrapper_named_in_errors
def leafwise(
    init: Callable[[jax.Array], Any],
    update: Callable[[jax.Array, Any, Any, Any], tuple[jax.Array, Any]],
    state_type: type = LeafwiseState,
    *,
    needs_params: bool = False,
) -> optax.GradientTransformation:
    r"""Turns an equation on one array into a transformation of a tree.

    Write `init` and `update` for a single array, as the paper does. `leafwise` walks the tree,
    counts the steps, lets `None` and `optax.MaskedNode` leaves pass, and minds the precision: the
    equation is computed in float32 at least, the update has the gradient's dtype, and the state
    keeps the shapes and dtypes that `init` gave it (from float16 and bfloat16 parameters, float32).

    Equation:
        .. math:: (u_i, s_i) \leftarrow \mathrm{update}(g_i, s_i, \theta_i, t)
            \quad\text{for each leaf } i

    Args:
        init: `init(param)` returns the state of one parameter: an array, or a tuple of them.
        update: `update(grad, state, param, step)` returns `(update, state)`. `step` is the number
            of this update, from 1, an int32 scalar; it is `None` if the state has no `count`.
            `param` is `None` if the caller gave no parameters.
        state_type: a NamedTuple class. Its first field may be `count`; the others take, in order,
            what `init` returns, each as a tree like the parameters: a single array for one field, a
            tuple for several, `()` for none. Default: `LeafwiseState`.
        needs_params: whether calling without parameters is an error.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `state_type`: what `init` returns for each parameter, and `count` where it has that field.

    Raises:
        ValueError: (at `init`) parameters of integers; (when updating) the state of another
            transformation, gradients unlike the state or the parameters in structure or shape,
            gradients of integers, or parameters missing. The message names the leaf.

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
    name = update.__qualname__.split(".<locals>")[0]
    all_fields: tuple[str, ...] = state_type._fields  # type: ignore[attr-defined]
    fields, counted = [f for f in all_fields if f != "count"], "count" in all_fields
    # Jitted so that all leaves of one shape share a trace, and an eager update is one call a leaf.
    equation = jax.jit(functools.partial(_one_leaf, init, update, len(fields) == 1))

    def to_state(count, rows, treedef):
        trees = [treedef.unflatten([row[i] for row in rows]) for i in range(len(fields))]
        return state_type(*([count] if counted else []), *trees)

    def init_tree(params):
        leaves, treedef = _flatten(params)
        rows = []
        for index, leaf in enumerate(leaves):
            if is_hole(leaf):
                rows.append((leaf,) * len(fields))
                continue
            array = jnp.asarray(leaf)
            if not jnp.issubdtype(array.dtype, jnp.inexact):
                got = f"the parameter must be of floating point, got {array.dtype}"
                raise NamedError(name, f"{_at(params, index)}{got}")
            state = jax.tree.map(_strongly_typed, init(in_precision(32, array)))
            rows.append((state,) if len(fields) == 1 else tuple(state))
        return to_state(jnp.zeros((), jnp.int32), rows, treedef)

    def update_tree(updates, state, params=None):
        if needs_params:
            check_params(name, params)
        if missing := [field for field in all_fields if not hasattr(state, field)]:
            raise NamedError(
                name,
                f"state must be {state_type.__name__}, got {type(state).__name__}, "
                f"which has no {missing[0]}",
            )
        grads, treedef = _flatten(updates)
        columns = [_leaves_like(updates, treedef, getattr(state, f), name, f) for f in fields]
        weights = [None] * len(grads)
        if params is not None:
            weights = _leaves_like(updates, treedef, params, name, "params")
        count = optax.safe_increment(state.count) if counted else None
        new_grads, new_rows = [], []
        for index, grad in enumerate(grads):
            row = tuple(column[index] for column in columns)
            if not is_hole(grad):
                try:
                    grad, row = equation(jnp.asarray(grad), row, weights[index], count)
                except _LeafMismatch as mismatch:
                    raise NamedError(name, f"{_at(updates, index)}{mismatch}") from None
            new_grads.append(grad)
            new_rows.append(row)
        return treedef.unflatten(new_grads), to_state(count, new_rows, treedef)

    return named_stages(name, optax.GradientTransformation(init_tree, update_tree))


def value_at(value: Any, step: Any, like: jax.Array) -> Any:
    """A hyperparameter in an equation's step, from 1: a number as it is, or its schedule's value.

    Schedules count from 0; their value has the dtype of the array it is for.
    """
    return jnp.asarray(value(step - 1), like.real.dtype) if callable(value) else value


def check_params(function: str, params: Any) -> None:
    """Raises unless the caller of `update` gave the parameters."""
    if params is None:
        raise NamedError(
            function, "needs the parameters, got params=None: call update(updates, state, params)"
        )


def found_state(function: str, state: PyTree, state_type: type) -> Any:
    """The one state of a type inside the state of a chain."""
    leaves = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, state_type))
    found = [leaf for leaf in leaves if isinstance(leaf, state_type)]
    if len(found) != 1:
        raise NamedError(
            function,
            f"state must hold one {state_type.__name__}, got {len(found)} in "
            f"{type(state).__name__}",
        )
    return found[0]


def _flatten(tree: PyTree) -> tuple[list, Any]:
    """The leaves with the holes among them."""
    return jax.tree.flatten(tree, is_leaf=is_hole)


def _at(tree: PyTree, index: int) -> str:
    """Where a leaf is, for an error: nothing, if the tree is that leaf."""
    path = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_hole)[index][0]
    return f"at {path_name(path)} " if path else ""


def is_hole(leaf: Any) -> bool:
    """Whether nothing stands here: `None`, or what `optax.masked` leaves in place of a leaf."""
    return leaf is None or isinstance(leaf, optax.MaskedNode)


def in_precision(bits: int, array: Any) -> jax.Array:
    """The array with at least so many bits a real number; integers as they are."""
    if not jnp.issubdtype(array.dtype, jnp.inexact) or jnp.finfo(array.dtype).bits >= bits:
        return array
    kind = "complex" if jnp.issubdtype(array.dtype, jnp.complexfloating) else "float"
    return array.astype(f"{kind}{bits * 2 if kind == 'complex' else bits}")


def _strongly_typed(array: Any) -> jax.Array:
    """The array without JAX's weak type, which a loop's carry would not keep."""
    return jnp.asarray(array, jnp.result_type(array))


class _LeafMismatch(Exception):
    """What is wrong with one leaf; the caller adds the leaf's path."""


def _one_leaf(
    init: Callable, update: Callable, single: bool, grad: Any, row: tuple, param: Any, count: Any
) -> tuple[Any, tuple]:
    """One leaf's update: the equation in float32 at least, its results in the dtypes they had."""
    if not jnp.issubdtype(grad.dtype, jnp.inexact):
        raise _LeafMismatch(f"the gradient must be of floating point, got {grad.dtype}")
    if param is not None and jnp.shape(param) != grad.shape:
        raise _LeafMismatch(f"the gradient has shape {grad.shape}, the parameter {param.shape}")
    expected = jax.eval_shape(init, grad)
    _check_shapes("state (made by init)", (expected,) if single else expected, row)

    inexact = [x for x in jax.tree.leaves((grad, row, param)) if jnp.issubdtype(x, jnp.inexact)]
    bits = max(32, *(jnp.finfo(x.dtype).bits for x in inexact))
    wide = jax.tree.map(functools.partial(in_precision, bits), (grad, row, param))
    new_grad, state = _pair(update(wide[0], wide[1][0] if single else wide[1], wide[2], count))
    new = new_grad, (state,) if single else tuple(state)
    _check_shapes("update and state", (grad, row), new)
    return jax.tree.map(lambda new, old: new.astype(old.dtype), new, (grad, row))


def _pair(returned: Any) -> tuple[Any, Any]:
    """What an equation's update must return."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        got = f"{len(returned)} values" if isinstance(returned, tuple) else "one value"
        raise _LeafMismatch(f"update must return the pair (update, state), got {got}")
    return returned


def _check_shapes(what: str, expected: Any, got: Any) -> None:
    shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (expected, got)]
    if shapes[0] != shapes[1]:
        raise _LeafMismatch(f"the {what} must have the shapes {shapes[0]}, got {shapes[1]}")


def _leaves_like(updates: PyTree, treedef: Any, tree: PyTree, name: str, what: str) -> list:
    """The leaves of a tree that must have the structure of the updates."""
    try:
        return treedef.flatten_up_to(tree)
    except ValueError as error:
        got, expected = set(path_names(updates)), set(path_names(tree))
        raise NamedError(
            name,
            f"the updates are unlike {what}; only in the updates:"
            f"{listed(sorted(got - expected))}\nonly in {what}:{listed(sorted(expected - got))}\n"
            f"({error})",
        ) from None
