"""Guards: steps that would ruin the parameters are skipped and counted."""

import dataclasses
import functools
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards.core.abstract import is_placeholder
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.paths import path_names
from jaxopt_cards.core.precision import is_inexact, wider
from jaxopt_cards.core.states import found_state


class SkipNonfiniteState(NamedTuple):
    """State of `skip_nonfinite`."""

    inner_state: optax.OptState
    consecutive: jax.Array  # shape (), int32: bad steps in a row, until now
    total: jax.Array  # shape (), int32: bad steps so far
    leaves: Any  # like the parameters, int32 of shape (): bad steps by leaf


@dataclasses.dataclass(frozen=True)
class SkipReport:
    """What `read_skips` returns."""

    total: int  # bad steps so far
    consecutive: int  # bad steps in a row, until now
    leaves: dict[str, int]  # bad steps by the path of the leaf; only those that had any


@declare(is_wrapper=True)
def skip_nonfinite(
    inner: optax.GradientTransformation, max_consecutive: Annotated[int, "[0, inf)"] = 10
) -> optax.GradientTransformationExtraArgs:
    r"""Skips steps in which a gradient or an update is not finite, and counts them by leaf.

    A bad step leaves the parameters and the inner state as they were. `optax.apply_if_finite` only
    checks gradients; this also checks updates, which may overflow inside the optimizer, and counts
    for each leaf. After `max_consecutive` bad steps in a row the next bad step is applied, so that
    the failure shows instead of a run that makes no progress.

    Equation:
        .. math:: u_t \leftarrow \begin{cases}
            u_t & \text{all of } g_t, u_t \text{ finite, or given up} \\
            0 & \text{else} \end{cases}

        with :math:`g_t` the gradient and :math:`u_t` the update of `inner`.

    Args:
        inner: the transformation to guard, preferably the whole chain.
        max_consecutive: bad steps in a row to skip before giving up.

    State:
        `SkipNonfiniteState`: `inner_state`, and as int32 scalars `consecutive`, `total`, and one in
        `leaves` for each parameter. `read_skips` returns a report of it.

    Raises:
        ValueError: `inner` is no transformation, an argument outside its range.

    References:
        Paulius Micikevicius et al. (2018), Mixed Precision Training: skipped steps. Optax (2020),
        `apply_if_finite`.

    Use when: you train in float16, or on data with rare broken examples.
    Avoid when: steps are often bad: lower the learning rate, or clip.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.skip_nonfinite(jc.adam(0.1)), {"w": jnp.ones(1)}
        >>> bad = {"w": jnp.array([jnp.nan])}
        >>> updates, state = tx.update(bad, tx.init(params), params)
        >>> print(updates["w"], jc.read_skips(state))
        [0.] SkipReport(total=1, consecutive=1, leaves={'w': 1})
    """
    inner = optax.with_extra_args_support(inner)

    def init(params):
        # Each in its own buffer, so that a step can donate them.
        def zero(_=None):
            return jnp.zeros((), jnp.int32)

        leaves = zero() if is_placeholder(params) else jax.tree.map(zero, params)
        return SkipNonfiniteState(inner.init(params), zero(), zero(), leaves)

    def update(updates, state, params=None, **extra_args):
        new_updates, inner_state = inner.update(updates, state.inner_state, params, **extra_args)
        bad_leaves = jax.tree.map(
            lambda _, *arrays: _is_bad(arrays), state.leaves, updates, new_updates
        )
        bad = jax.tree.reduce(jnp.logical_or, bad_leaves, jnp.array(False))
        consecutive = jnp.where(bad, optax.safe_increment(state.consecutive), 0)
        taken = ~bad | (consecutive > max_consecutive)
        new_updates, inner_state = jax.tree.map(
            lambda new, old: jnp.where(taken, new, old),
            (new_updates, inner_state),
            (jax.tree.map(jnp.zeros_like, new_updates), state.inner_state),
        )
        leaves = jax.tree.map(lambda n, b: n + b.astype(jnp.int32), state.leaves, bad_leaves)
        total = jnp.where(bad, optax.safe_increment(state.total), state.total)
        return new_updates, SkipNonfiniteState(inner_state, consecutive, total, leaves)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_bad(arrays: tuple) -> jax.Array:
    """Whether a gradient or its update, if there is one, has numbers that are not finite."""
    found = [jnp.asarray(x) for x in arrays if x is not None and is_inexact(x)]
    if not found:
        return jnp.array(False)
    # Zero times infinity or NaN is NaN, so one sum is enough. XLA computes it on the CPU faster
    # than `isfinite` and `all`.
    dtype = wider(*found)
    return jnp.sum(functools.reduce(jnp.add, [x.astype(dtype) * 0 for x in found])) != 0


@declare
def read_skips(state: optax.OptState) -> SkipReport:
    r"""Reads the counts of `skip_nonfinite` from a state: bad steps in total and by leaf.

    Waits for the device; call it between epochs, not between steps.

    Args:
        state: the state of `skip_nonfinite`, or of a chain that contains it once.

    Returns:
        A `SkipReport`: `total`, `consecutive`, and `leaves`, from paths to counts.

    Raises:
        ValueError: the state has none of `skip_nonfinite`, or more than one.

    References:
        Optax (2020), `apply_if_finite`.

    Use when: a run with `skip_nonfinite` is over, or seems to make no progress.
    Avoid when: inside a compiled function: the numbers are not known there.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> state = jc.skip_nonfinite(jc.sgd(0.1)).init(jnp.zeros(1))
        >>> jc.read_skips(state).total
        0
    """
    found = found_state(state, SkipNonfiniteState)
    counts = map(int, jax.tree.leaves(found.leaves))
    by_path = zip(path_names(found.leaves), counts, strict=True)
    return SkipReport(
        int(found.total), int(found.consecutive), {path: n for path, n in by_path if n}
    )
