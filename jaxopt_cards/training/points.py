"""Where an optimizer wants the gradient, where its model is measured, and what a step is told."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax import contrib

from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.states import found_states, merged_leaves
from jaxopt_cards.core.trees import is_hole, leaves_like
from jaxopt_cards.optimizers.true_nesterov import ScaleByTrueNesterovState, nesterov_point
from jaxopt_cards.wrappers.lookahead import LookaheadState, slow_weights
from jaxopt_cards.wrappers.reading import readable

PyTree = Any
Evaluated = Callable[[Any, Any], Any]  # of parameters and the optimizer's state

# Their updates measure the batch again, at other points.
_MEASURES_AGAIN = (
    contrib.SAMState,
    contrib.HutchinsonState,
    optax.ScaleByZoomLinesearchState,
    optax.ScaleByBacktrackingLinesearchState,
)


def first_state(tx: optax.GradientTransformation, params: PyTree) -> optax.OptState:
    """The optimizer's state; raises where a trainer would not do what the optimizer's docs say."""
    state = tx.init(params)
    for sam in found_states(state, contrib.SAMState):
        if sam.cache is not None:
            raise NamedError(
                "tx must be sam(..., opaque_mode=True): with opaque_mode=False the parameters "
                "between two steps are the perturbed ones, which a trainer would measure and keep"
            )
    if found_states(state, optax.LookaheadState):
        raise NamedError(
            "tx must take plain parameters: optax.lookahead takes pairs, use jaxopt_cards.lookahead"
        )
    if found_states(state, contrib.DifferentiallyPrivateAggregateState):
        raise NamedError(
            "tx must take the gradient of the batch: differentially_private_aggregate and dpsgd "
            "take one gradient for each example, which a trainer does not compute"
        )
    for accumulated in found_states(state, optax.MultiStepsState):
        for kind in _MEASURES_AGAIN:
            if found_states(accumulated.inner_opt_state, kind):
                raise NamedError(
                    "tx must not accumulate gradients in MultiSteps for a transformation that "
                    f"measures the loss again ({kind.__name__}), since it would measure the last "
                    "batch only: use a larger batch_size"
                )
    return state


def gradient_point(params: PyTree, opt_state: optax.OptState, factor: Any = None) -> PyTree:
    """Where the gradient is measured: ahead for `scale_by_true_nesterov`, else at the parameters.

    `factor` multiplies all updates, so also the step ahead.
    """
    if not found_states(opt_state, ScaleByTrueNesterovState):
        return params
    point = nesterov_point(params, readable(opt_state))
    if factor is None:
        return point
    return jax.tree.map(lambda p, q: p + factor.astype(p.dtype) * (q - p), params, point)


def evaluation_point(
    evaluated: Evaluated | None, params: PyTree, opt_state: optax.OptState
) -> PyTree:
    """The parameters that are measured and kept."""
    if evaluated is not None:
        return _checked(evaluated(params, opt_state), params)
    if found_states(opt_state, LookaheadState):
        return slow_weights(params, opt_state)
    if found_states(opt_state, contrib.ScheduleFreeState):
        return _schedule_free_point(params, opt_state)
    return params


def _checked(chosen: PyTree, params: PyTree) -> PyTree:
    """The parameters that `evaluated` chose, in the dtypes of the trained ones."""
    try:
        leaves = leaves_like(params, chosen, "what evaluated returns")
    except NamedError as error:
        raise NamedError(f"evaluated must return a tree like the parameters: {error}") from None
    for leaf, param in zip(leaves, jax.tree.leaves(params), strict=True):
        if jnp.shape(leaf) != param.shape:
            raise NamedError(
                f"evaluated must return arrays of the parameters' shapes, got {jnp.shape(leaf)} "
                f"for {param.shape}"
            )
    return jax.tree.map(lambda param, leaf: jnp.asarray(leaf, param.dtype), params, chosen)


def _schedule_free_point(params: PyTree, opt_state: optax.OptState) -> PyTree:
    """The averages of Optax's `schedule_free`, which its `schedule_free_eval_params` computes."""

    def averages(state: Any) -> PyTree:
        def average(z: jax.Array, y: jax.Array) -> jax.Array:
            b1 = jnp.asarray(state.b1, z.dtype)
            return (y.astype(z.dtype) - (1 - b1) * z) / b1

        return jax.tree.map(
            lambda z, y: z if is_hole(z) else average(z, y), state.z, params, is_leaf=is_hole
        )

    states = found_states(readable(opt_state), contrib.ScheduleFreeState)
    leaves = merged_leaves(params, [averages(state) for state in states], "ScheduleFreeState")
    return jax.tree.map(
        lambda leaf, param: param if is_hole(leaf) else leaf.astype(param.dtype),
        jax.tree.unflatten(jax.tree.structure(params), leaves),
        params,
        is_leaf=is_hole,
    )


def told(
    loss: Callable[[PyTree], jax.Array], params: PyTree, state: Any, value: Any, grads: PyTree
) -> dict[str, Any]:
    """What any stage may ask for by name: the loss, its gradient, and both at other points.

    A stage inside of `optax.masked` asks with holes in the place of other parameters.
    """

    # Optax's line searches pass on all arguments that they do not know.
    def value_fn(point: PyTree, grad_fn: Any = None, obj_fn: Any = None) -> jax.Array:
        return loss(_filled(point, params))

    def grad_fn(point: PyTree, _: Any = None) -> PyTree:
        slopes = jax.grad(loss)(_filled(point, params))
        return jax.tree.map(lambda p, g: p if is_hole(p) else g, point, slopes, is_leaf=is_hole)

    if found_states(state, contrib.SAMState):  # it takes no other arguments
        return {"grad_fn": grad_fn}
    names = {"value": value, "grad": grads, "value_fn": value_fn}
    return names | {"grad_fn": grad_fn, "obj_fn": value_fn}


def _filled(point: PyTree, params: PyTree) -> PyTree:
    return jax.tree.map(lambda p, q: q if is_hole(p) else p, point, params, is_leaf=is_hole)


def update(
    tx: optax.GradientTransformationExtraArgs, grads: PyTree, state: Any, params: PyTree, told: dict
) -> tuple[PyTree, Any]:
    """The update; an argument that no trainer knows of is an error that names it."""
    try:
        return tx.update(grads, state, params, **told)
    except TypeError as error:
        if "missing" not in str(error):
            raise
        given = ", ".join(told)
        raise NamedError(
            f"tx needs an argument that a trainer does not give: {error}; it gives {given}"
        ) from error
