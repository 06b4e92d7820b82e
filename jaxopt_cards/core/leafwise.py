"""Turns an equation on one array into a transformation of a tree."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards.core.checks import check_params, shown
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import function_name, named_stages
from jaxopt_cards.core.leaf_errors import LeafMismatch
from jaxopt_cards.core.precision import is_still, one_leaf, unmoved
from jaxopt_cards.core.states import StateLayout
from jaxopt_cards.core.trees import (
    PyTree,
    check_parameters,
    each_leaf,
    flatten,
    is_hole,
    leaves_like,
)


class LeafwiseState(NamedTuple):
    """State of a transformation without a `state_type` of its own."""

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
    counts the steps, skips `None` and `optax.MaskedNode` leaves, and handles the precision. The
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
    layout = StateLayout(state_type)
    of_gradient = not (layout.fields or needs_params)
    # Jitted so that all leaves of one shape share a trace, and an eager update is one call a leaf.
    equation = jax.jit(functools.partial(one_leaf, init, update, layout, of_gradient))

    def init_tree(params):
        check_parameters(params)
        leaves, treedef = flatten(params)
        taken: dict[int, Any] = {}  # the arrays whose buffers are in use
        rows = [layout.first_row(init, leaf, taken) for leaf in leaves]
        return layout.state(jnp.zeros((), jnp.int32), rows, treedef)

    def update_tree(updates, state, params=None):
        if needs_params:
            check_params(params)
        treedef, rows = flatten(updates)[1], layout.rows(state, updates)
        weights = [None] * len(rows) if params is None else leaves_like(updates, params, "params")
        count = layout.next_count(state)
        step = functools.partial(_step, equation, count)
        pairs = each_leaf(step, updates, rows, weights)
        new_updates, new_rows = ([pair[index] for pair in pairs] for index in range(2))
        return treedef.unflatten(new_updates), layout.state(count, new_rows, treedef)

    tx = optax.GradientTransformation(init_tree, update_tree)
    return named_stages(function_name(update), tx)


def _step(equation: Callable, count: Any, grad: Any, row: tuple, param: Any) -> tuple[Any, tuple]:
    """One leaf's update and state: of the equation, unless the leaf has no gradient."""
    if is_hole(grad):
        return grad, row
    if is_still(grad, param) or any(isinstance(part, optax.MaskedNode) for part in row):
        return unmoved(grad, param), row
    return equation(jnp.asarray(grad), row, param, count)


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
