"""Weight decay: parameters drawn towards zero."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards._checks import check_number
from jaxopt_cards.transforms._leafwise import leafwise


class WeightDecaySchedule(NamedTuple):
    """State of `add_decayed_weights` when the decay follows a schedule."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done


def add_decayed_weights(
    weight_decay: optax.ScalarOrSchedule = 0.0, mask: Any = None
) -> optax.GradientTransformation:
    r"""Adds a multiple of the parameters to the updates: decoupled ℓ2 decay.

    Placed after an adaptive stage and before the learning rate, it shrinks each weight in
    proportion to itself, whatever its gradients were: AdamW. Placed first in the chain, it is the
    gradient of an ℓ2 penalty.

    Equation:
        .. math:: u_t \leftarrow u_t + \lambda\, \theta_{t-1}

        with :math:`\lambda` = `weight_decay`.

    Args:
        weight_decay: float in [0, inf), or a schedule of the step from 0.
        mask: a tree of booleans like the parameters (or a prefix), or a function from the
            parameters to one: where to decay. `lambda params: select(params, "kernel")` leaves
            biases alone.

    Returns:
        An `optax.GradientTransformation` that needs the parameters.

    State:
        With a schedule `count`, int32 of shape (). Else none.

    Raises:
        ValueError: `weight_decay` is a number outside [0, inf); (when updating) no parameters.

    References:
        Ilya Loshchilov, Frank Hutter (2019), Decoupled Weight Decay Regularization. Chapter 11, "ℓ1
        and ℓ2 Regularization".

    Use when: the network overfits, or weights grow without bound.
    Avoid when: exact zeros are wanted, which ℓ2 never gives.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.add_decayed_weights(0.1)
        >>> params = jnp.array([1.0, -2.0])
        >>> updates, _ = tx.update(jnp.zeros(2), tx.init(params), params)
        >>> print(updates)
        [ 0.1 -0.2]
    """
    check_number("add_decayed_weights", "weight_decay", weight_decay, "[0, inf)", or_schedule=True)
    scheduled = callable(weight_decay)

    def init(param):
        return ()

    def update(grad, state, param, step):
        rate: Any = weight_decay
        if callable(weight_decay):
            rate = jnp.asarray(weight_decay(step - 1), param.real.dtype)
        return grad + rate * param, state

    decay = leafwise(
        init,
        update,
        WeightDecaySchedule if scheduled else optax.EmptyState,
        needs_params=True,
    )
    return decay if mask is None else optax.masked(decay, mask)
