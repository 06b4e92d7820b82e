"""From Adam to gradient descent."""

import jax
import optax
from optax import chain

from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.transforms.adabound import scale_by_adabound
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate


@named_in_errors
def adabound(
    learning_rate: optax.ScalarOrSchedule,
    final_scale: jax.typing.ArrayLike = 100.0,
    gamma: jax.typing.ArrayLike = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
) -> optax.GradientTransformation:
    r"""AdaBound: Adam at first, gradient descent with momentum in the end.

    Each weight's rate is clipped between two bounds that close in on one final rate for all.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\eta` = `learning_rate` and :math:`u_t` as in `scale_by_adabound`.

    Args:
        learning_rate: float in [0, inf), or a schedule. The authors' is 0.001.
        final_scale: float in (0, inf); the rate in the end, as a multiple of the learning rate. The
            authors' 0.1 / 0.001 = 100.
        gamma: float in (0, inf); how fast the bounds close.
        b1: float in [0, 1); decay of the mean.
        b2: float in [0, 1); decay of the mean square.
        eps: float in (0, inf); keeps the division finite.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.ScaleByAdamState`: `count`, and `mu` and `nu`, one array each like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Liangchen Luo, Yuanhao Xiong, Yan Liu, Xu Sun (2019), Adaptive Gradient Methods with Dynamic
        Bound of Learning Rate.

    Use when: Adam is fast at first but gradient descent ends at better accuracy.
    Avoid when: the final rate cannot be tuned.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adabound(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.900
    """
    return chain(
        scale_by_adabound(final_scale, gamma, b1, b2, eps),
        scale_by_learning_rate(learning_rate),
    )


@named_in_errors
def amsbound(
    learning_rate: optax.ScalarOrSchedule,
    final_scale: jax.typing.ArrayLike = 100.0,
    gamma: jax.typing.ArrayLike = 1e-3,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
) -> optax.GradientTransformation:
    r"""AMSBound: AdaBound with the largest mean square so far in the denominator.

    AdaBound's bounds around AMSGrad's rates, which never grow again.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, u_t

        with :math:`\eta` = `learning_rate` and :math:`u_t` as in `scale_by_adabound`.

    Args:
        learning_rate: float in [0, inf), or a schedule. The authors' is 0.001.
        final_scale: float in (0, inf); the rate in the end, as a multiple of the learning rate. The
            authors' 0.1 / 0.001 = 100.
        gamma: float in (0, inf); how fast the bounds close.
        b1: float in [0, 1); decay of the mean.
        b2: float in [0, 1); decay of the mean square.
        eps: float in (0, inf); keeps the division finite.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `ScaleByAmsboundState`: `count`, and `mu`, `nu` and `nu_max`, one array each like each
        parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Liangchen Luo, Yuanhao Xiong, Yan Liu, Xu Sun (2019), Adaptive Gradient Methods with Dynamic
        Bound of Learning Rate.

    Use when: as `adabound`, where rare, large gradients should not be forgotten.
    Avoid when: the final rate cannot be tuned.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.amsbound(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.900
    """
    return chain(
        scale_by_adabound(final_scale, gamma, b1, b2, eps, amsbound=True),
        scale_by_learning_rate(learning_rate),
    )
