"""Exact zeros: the ℓ1 proximal step, and pruning."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import shown
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.leafwise import leafwise, value_at
from jaxopt_cards.core.sharding import laid_out_like, split_by
from jaxopt_cards.selection import where


class ProximalL1State(NamedTuple):
    """State of `proximal_l1` when its strength follows a schedule."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done


class MagnitudePruneState(NamedTuple):
    """State of `magnitude_prune`."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    kept: optax.Updates  # like the parameters, bool: which weights are not pruned


@declare(needs_params=True, elementwise=True)
def proximal_l1(
    strength: Annotated[optax.ScalarOrSchedule, "[0, inf)"], mask: Any = None
) -> optax.GradientTransformation:
    r"""Moves each parameter towards zero by a fixed amount after the step, but not past it.

    Soft thresholding, as the last stage of a chain: weights that the loss does not keep away from
    zero become exactly zero. With `strength` = learning rate times λ, it is proximal gradient
    descent on the loss plus λ times the ℓ1 norm.

    Equation:
        .. math:: \theta \leftarrow \mathrm{sign}(\theta + u)\, \max(|\theta + u| - \tau, 0)

        with :math:`\theta` the parameters, :math:`u` the update so far, :math:`\tau` = `strength`.

    Args:
        strength: the amount: the learning rate times the strength of the penalty. A schedule is
            called with the number of earlier updates.
        mask: which parameters, as in `select`. Default: all.

    Returns:
        An `optax.GradientTransformation` that needs the parameters; put it last.

    State:
        With a schedule `count`, int32 of shape (). Otherwise none.

    Raises:
        ValueError: `strength` outside its range; a mask that does not fit; (when updating) no
            parameters.

    References:
        Neal Parikh, Stephen Boyd (2014), Proximal Algorithms, section 6.5.2. Géron (2017), chapter
        11, "ℓ1 and ℓ2 Regularization".

    Use when: you want a sparse network, with exact zeros.
    Avoid when: a later stage of the chain changes the updates; the zeros would be lost.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.chain(jc.sgd(1.0), jc.proximal_l1(0.5))
        >>> params = jnp.array([2.0, 0.3, -1.0])
        >>> updates, _ = tx.update(jnp.zeros(3), tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [ 1.5  0.  -0.5]
    """

    def init(param):
        return ()

    def update(grad, state, param, step):
        after = param + grad
        threshold = value_at(strength, step, param)
        shrunk = jnp.sign(after) * jnp.maximum(jnp.abs(after) - threshold, 0)
        return shrunk - param, state

    state_type = ProximalL1State if callable(strength) else optax.EmptyState
    tx = leafwise(init, update, state_type, needs_params=True)
    return where(tx, mask)


@declare(needs_params=True, elementwise=True)
def magnitude_prune(
    threshold: Annotated[ArrayLike, "(0, inf)"] | None = None,
    sparsity: Annotated[optax.ScalarOrSchedule, "[0, 1)"] | None = None,
    every: Annotated[int, "[1, inf)"] = 1,
    mask: Any = None,
) -> optax.GradientTransformation:
    r"""Sets small weights to zero after the step, and keeps them zero.

    With `threshold`, all weights smaller than it; with `sparsity`, the given share of the smallest
    of each array. A pruned weight stays pruned, whatever its gradients. A schedule for `sparsity`
    that rises from 0 prunes step by step while the rest of the network adapts.

    Equation:
        .. math::
            k &\leftarrow k \wedge [\,|\theta + u| \ge \tau\,] \\
            \theta &\leftarrow (\theta + u)\, [k]

        with :math:`\theta` the parameters, :math:`u` the update so far, :math:`k` the weights kept,
        :math:`\tau` = `threshold`, or the value that a share of `sparsity` is below.

    Args:
        threshold: weights smaller than this are pruned.
        sparsity: the share of zeros in each array. Give exactly one of `threshold` and `sparsity`.
            A schedule is called with the number of earlier updates.
        every: number of updates from one choice of weights to the next, since sorting is slow.
        mask: which parameters, as in `select`. Default: all.

    Returns:
        An `optax.GradientTransformation` that needs the parameters; put it last.

    State:
        `MagnitudePruneState`: `count` (int32) and `kept`, one boolean array for each parameter.

    Raises:
        ValueError: neither or both of `threshold` and `sparsity`, an argument outside its range, a
            mask that does not fit; (when updating) no parameters.

    References:
        Song Han, Jeff Pool, John Tran, William Dally (2015), Learning both Weights and Connections
        for Efficient Neural Networks. Michael Zhu, Suyog Gupta (2017), To prune, or not to prune.
        Géron (2017), chapter 11, "Faster Optimizers": training sparse models.

    Use when: a trained network should become small, and then be trained a little more.
    Avoid when: you train from the start: it is not known yet which weights matter; use
        `proximal_l1`.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.chain(jc.sgd(1.0), jc.magnitude_prune(sparsity=0.5))
        >>> params = jnp.array([2.0, 0.3, -1.0, -0.1])
        >>> updates, state = tx.update(jnp.zeros(4), tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [ 2.  0. -1.  0.]
    """
    if (threshold is None) == (sparsity is None):
        got = f"threshold={shown(threshold)} and sparsity={shown(sparsity)}"
        raise NamedError(f"give exactly one of threshold and sparsity, got {got}")

    def init(param):
        return jnp.ones_like(param, dtype=bool)

    def chosen(size, step):
        if threshold is not None:
            return size >= threshold
        share = value_at(sparsity, step, size)
        # By rank, not by value, so that equal weights are not pruned all at once.
        order = jnp.argsort(split_by(size), axis=None)
        rank = laid_out_like(jnp.argsort(order).reshape(size.shape), size)
        return rank >= jnp.floor(jnp.asarray(share, size.dtype) * size.size).astype(rank.dtype)

    def update(grad, kept, param, step):
        after = param + grad
        # Pruned weights get the size -1, below all that are kept.
        size = jnp.where(kept, jnp.abs(after), -1)
        kept = jax.lax.cond(
            (step - 1) % every == 0, lambda: kept & chosen(size, step), lambda: kept
        )
        return jnp.where(kept, after, 0) - param, kept

    tx = leafwise(init, update, MagnitudePruneState, needs_params=True)
    return where(tx, mask)
