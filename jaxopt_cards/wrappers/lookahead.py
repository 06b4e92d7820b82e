"""Lookahead: slow weights that follow fast ones."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxopt_cards.core.abstract import applied
from jaxopt_cards.core.checks import check_params
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.precision import in_precision, is_inexact, wider
from jaxopt_cards.core.states import found_states, merged_leaves
from jaxopt_cards.core.trees import is_hole
from jaxopt_cards.wrappers.reading import readable


class LookaheadState(NamedTuple):
    """State of `lookahead`."""

    fast_state: optax.OptState  # of the inner optimizer
    slow: optax.Params  # like the parameters: the slow weights
    steps_since_sync: jax.Array  # shape (), int32


@declare(needs_params=True, elementwise=True, is_wrapper=True, evaluated_at="slow_weights")
def lookahead(
    fast: optax.GradientTransformation,
    sync_period: Annotated[int, "[1, inf)"] = 5,
    slow_step_size: Annotated[ArrayLike, "(0, 1]"] = 0.5,
    reset_state: bool = False,
) -> optax.GradientTransformationExtraArgs:
    r"""Runs an optimizer for k steps, then keeps a part of the way: k steps forward, 1 step back.

    This averages out the variance of the fast steps. It wraps any optimizer, on plain parameters:
    these are the fast weights, and equal the slow weights after each synchronisation. The slow
    weights are the result: read them with `slow_weights(params, state)`. `fit`, `fit_many` and
    `fit_online` measure and return them. Optax's `lookahead` takes and returns pairs of both
    instead.

    Equation:
        .. math::
            \theta_t &= \theta_{t-1} + u_t \\
            \phi &\leftarrow \phi + \alpha\, (\theta_t - \phi), \quad \theta_t \leftarrow \phi
            \qquad\text{every } k \text{ steps}

        with :math:`\theta_t` the parameters, :math:`u_t` the update of `fast`, :math:`\phi` the
        slow weights, :math:`k` = `sync_period`, :math:`\alpha` = `slow_step_size`.

    Args:
        fast: the optimizer of the fast steps.
        sync_period: number of steps between synchronisations. The paper's 5.
        slow_step_size: the part of the way that is kept. The paper's 0.5.
        reset_state: whether to reset the state of `fast` after each synchronisation.

    State:
        `LookaheadState`: `fast_state`; `slow`, one array for each parameter, at least float32;
        `steps_since_sync` (int32).

    Raises:
        ValueError: an argument outside its range, `fast` is no transformation; (when updating) no
            parameters.

    References:
        Michael Zhang, James Lucas, Geoffrey Hinton, Jimmy Ba (2019), Lookahead Optimizer: k steps
        forward, 1 step back.

    Use when: an optimizer is noisy or its learning rate uncertain.
    Avoid when: there is no memory for another copy of the parameters.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.lookahead(jc.sgd(1.0), sync_period=2), jnp.zeros(1)
        >>> state = tx.init(params)
        >>> for _ in range(2):
        ...     updates, state = tx.update(-jnp.ones(1), state, params)
        ...     params = jc.apply_updates(params, updates)
        ...     print(params)
        [1.]
        [1.]
    """
    fast = optax.with_extra_args_support(fast)

    def init(params):
        slow = jax.tree.map(lambda param: applied(_slow, param), params)
        return LookaheadState(fast.init(params), slow, jnp.zeros((), jnp.int32))

    def update(updates, state, params=None, **extra_args):
        check_params(params)
        updates, fast_state = fast.update(updates, state.fast_state, params, **extra_args)
        steps = state.steps_since_sync + 1
        sync = steps >= sync_period

        def slow_step(param: Any, slow: Any, step: Any) -> Any:
            if is_hole(slow) or is_hole(step):
                return slow
            way = (param.astype(slow.dtype) - slow) + step.astype(slow.dtype)
            return jnp.where(sync, slow + jnp.asarray(slow_step_size, slow.real.dtype) * way, slow)

        def fast_step(param: Any, slow: Any, step: Any) -> Any:
            if is_hole(slow) or is_hole(step):
                return step
            dtype = wider(param, step)
            return jnp.where(
                sync, (slow - param.astype(slow.dtype)).astype(dtype), step.astype(dtype)
            )

        slow = jax.tree.map(slow_step, params, state.slow, updates)
        updates = jax.tree.map(fast_step, params, slow, updates)
        if reset_state:
            fresh = fast.init(params)
            fast_state = jax.tree.map(lambda new, old: jnp.where(sync, new, old), fresh, fast_state)
        return updates, LookaheadState(fast_state, slow, jnp.where(sync, 0, steps))

    return optax.GradientTransformationExtraArgs(init, update)


@declare
def slow_weights(params: optax.Params, state: optax.OptState) -> optax.Params:
    r"""The slow weights of `lookahead`: those to evaluate and to keep.

    Batch statistics are those of the fast weights, which made them.

    Equation:
        .. math:: \phi

        with :math:`\phi` the slow weights, as in `lookahead`.

    Args:
        params: the parameters, which are the fast weights.
        state: the state of `lookahead`, or one that contains it, such as that of a chain,
            `masked` or `partition`.

    Returns:
        A tree like `params`, with its dtypes. Parameters without slow weights are as they were.

    Raises:
        ValueError: the state has none of `lookahead`, or more than one for a parameter.

    References:
        Michael Zhang, James Lucas, Geoffrey Hinton, Jimmy Ba (2019), Lookahead Optimizer: k steps
        forward, 1 step back.

    Use when: you write the training loop yourself, and evaluate the model.
    Avoid when: you use `fit`, which does it; or you compute gradients: use the parameters.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.lookahead(jc.sgd(1.0), sync_period=2), jnp.zeros(1)
        >>> updates, state = tx.update(-jnp.ones(1), tx.init(params), params)
        >>> print(jc.apply_updates(params, updates), jc.slow_weights(params, state))
        [1.] [0.]
    """
    found = found_states(readable(state), LookaheadState)
    if not found:
        got = f"0 in {type(state).__name__}"
        raise NamedError(f"state must hold one LookaheadState, got {got}")
    leaves, treedef = jax.tree.flatten(params)
    slow = merged_leaves(params, [each.slow for each in found], "LookaheadState")
    chosen = [p if is_hole(s) else s.astype(p.dtype) for p, s in zip(leaves, slow, strict=True)]
    return jax.tree.unflatten(treedef, chosen)


def _slow(param: Any) -> Any:
    """The first slow weights; integers and keys have none."""
    # A copy: a step may donate both.
    return in_precision(32, jnp.array(param)) if is_inexact(param) else optax.MaskedNode()
