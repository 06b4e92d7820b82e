"""The last stage of most chains: the learning rate."""

import optax

from jaxopt_cards._checks import check_number


def scale_by_learning_rate(
    learning_rate: optax.ScalarOrSchedule, *, flip_sign: bool = True
) -> optax.GradientTransformation:
    r"""Multiplies updates by minus the learning rate, a number or a schedule.

    The last stage of a chain: it turns a direction of ascent into a step of descent. It is Optax's,
    with the learning rate checked, since a negative one climbs and NaN ruins the parameters
    silently.

    Equation:
        .. math:: u_t \leftarrow -\eta(t)\, u_t

        with :math:`\eta` the learning rate and :math:`t` the number of earlier updates.

    Args:
        learning_rate: float in [0, inf), or a schedule (a function of the step, from 0), or a
            traced value.
        flip_sign: bool; whether to multiply by minus the rate (default, as Optax) or by the rate.

    Returns:
        An `optax.GradientTransformation`.

    State:
        With a schedule `optax.ScaleByScheduleState`: `count`, int32 of shape (). Else none.

    Raises:
        ValueError: the learning rate is negative, infinite, or not a number.

    References:
        Herbert Robbins, Sutton Monro (1951), A Stochastic Approximation Method.

    Use when: you end a chain of your own.
    Avoid when: you use a named optimizer such as `adam`, which ends with it.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_learning_rate(0.1)
        >>> updates, _ = tx.update(jnp.array([1.0, -2.0]), tx.init(jnp.zeros(2)))
        >>> print(updates)
        [-0.1  0.2]
    """
    check_number(
        "scale_by_learning_rate", "learning_rate", learning_rate, "[0, inf)", or_schedule=True
    )
    return optax.scale_by_learning_rate(learning_rate, flip_sign=flip_sign)
