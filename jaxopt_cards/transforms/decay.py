"""Weight decay: penalties that move parameters towards zero."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise, value_at
from jaxopt_cards.core.moments import abs_sq
from jaxopt_cards.core.optax_states import state_class
from jaxopt_cards.selection import where


@declare(needs_params=True, elementwise=True)
def add_decayed_weights(
    weight_decay: Annotated[optax.ScalarOrSchedule, "(-inf, inf)"] = 0.0, mask: Any = None
) -> optax.GradientTransformation:
    r"""Adds a multiple of the parameters to the updates: decoupled ℓ2 decay.

    After an adaptive stage and before the learning rate, it shrinks each weight in proportion to
    itself, whatever its gradients were: this is AdamW. As the first stage of a chain, it is the
    gradient of an ℓ2 penalty.

    Equation:
        .. math:: u_t \leftarrow u_t + \lambda\, \theta_{t-1}

        with :math:`u_t` the update, :math:`\theta_t` the parameters, :math:`\lambda` =
        `weight_decay`.

    Args:
        weight_decay: strength of the decay. A negative one lets weights grow. A schedule is called
            with the number of earlier updates. Optax's default in `adamw` is 1e-4.
        mask: where to decay: a regular expression over paths, such as `"kernel"`, which leaves out
            biases; a tree of booleans like the parameters; or a function from the parameters to
            such a tree.

    State:
        With a schedule `count`, int32 of shape (). Otherwise none.

    References:
        Ilya Loshchilov, Frank Hutter (2019), Decoupled Weight Decay Regularization. Géron (2017),
        chapter 11, "ℓ1 and ℓ2 Regularization".

    Use when: the network overfits, or weights grow without bound.
    Avoid when: you need exact zeros, which ℓ2 decay never gives.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.add_decayed_weights(0.1)
        >>> params = jnp.array([1.0, -2.0])
        >>> updates, _ = tx.update(jnp.zeros(2), tx.init(params), params)
        >>> print(updates)
        [ 0.1 -0.2]
    """

    def init(param):
        return ()

    def update(grad, state, param, step):
        return grad + value_at(weight_decay, step, param) * param, state

    decay = leafwise(
        init,
        update,
        state_class(optax.add_decayed_weights(weight_decay)),
        needs_params=True,
    )
    return where(decay, mask)


@declare(needs_params=True, elementwise=True)
def add_l1_decay(
    l1: Annotated[ArrayLike, "[0, inf)"],
    smooth_l1: Annotated[ArrayLike, "[0, inf)"] = 0.0,
    mask: Any = None,
) -> optax.GradientTransformation:
    r"""Adds the sign of the parameters to the updates: the subgradient of an ℓ1 penalty.

    It moves all weights towards zero at the same speed, so small ones reach it. They then oscillate
    around zero by the size of a step: use `proximal_l1` for exact zeros. With `smooth_l1` the
    penalty is smooth at zero, and small weights come to rest near zero.

    Equation:
        .. math:: u_t \leftarrow u_t + \lambda_1 \frac{\theta}{\sqrt{\theta^2 + \delta^2}}, \quad
            \text{for } \delta = 0\text{: } u_t + \lambda_1 \mathrm{sign}(\theta)

        with :math:`u_t` the update, :math:`\theta` the parameters, :math:`\lambda_1` = `l1`,
        :math:`\delta` = `smooth_l1`.

    Args:
        l1: strength of the penalty :math:`\lambda_1 \sum |\theta|`.
        smooth_l1: the size of weights below which the penalty is smooth.
        mask: as in `add_decayed_weights`.

    References:
        Robert Tibshirani (1996), Regression Shrinkage and Selection via the Lasso. Géron (2017),
        chapter 11, "ℓ1 and ℓ2 Regularization".

    Use when: you want many weights near zero, as from Géron's penalty in the loss.
    Avoid when: you want weights that are exactly zero; use `proximal_l1`.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.add_l1_decay(0.1), jnp.array([2.0, -0.01])
        >>> updates, _ = tx.update(jnp.zeros(2), tx.init(params), params)
        >>> print(updates)
        [ 0.1 -0.1]
    """
    return _elastic_net(l1, 0.0, smooth_l1, mask)


@declare(needs_params=True, elementwise=True)
def add_elastic_net(
    l1: Annotated[ArrayLike, "[0, inf)"],
    l2: Annotated[ArrayLike, "[0, inf)"],
    smooth_l1: Annotated[ArrayLike, "[0, inf)"] = 0.0,
    mask: Any = None,
) -> optax.GradientTransformation:
    r"""Adds the gradient of an ℓ1 and of an ℓ2 penalty to the updates: the elastic net.

    The ℓ1 part selects weights. The ℓ2 part keeps correlated weights together; ℓ1 alone would pick
    one of them at random.

    Equation:
        .. math:: u_t \leftarrow u_t + \lambda_1 \frac{\theta}{\sqrt{\theta^2 + \delta^2}} +
            \lambda_2\, \theta

        with :math:`u_t` the update, :math:`\theta` the parameters, :math:`\lambda_1` = `l1`,
        :math:`\lambda_2` = `l2`, :math:`\delta` = `smooth_l1`.

    Args:
        l1: strength of :math:`\lambda_1 \sum |\theta|`.
        l2: strength of :math:`\tfrac{1}{2} \lambda_2 \sum \theta^2`, as `weight_decay` in
            `add_decayed_weights`. Zou and Hastie's penalty is without the half.
        smooth_l1, mask: as in `add_l1_decay`.

    References:
        Hui Zou, Trevor Hastie (2005), Regularization and variable selection via the elastic net.

    Use when: features are correlated and you want few of them.
    Avoid when: one of the two penalties is enough.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.add_elastic_net(0.5, 0.25), jnp.array([2.0, -4.0])
        >>> updates, _ = tx.update(jnp.zeros(2), tx.init(params), params)
        >>> print(updates)
        [ 1.  -1.5]
    """
    return _elastic_net(l1, l2, smooth_l1, mask)


def _elastic_net(l1: Any, l2: Any, smooth_l1: Any, mask: Any) -> optax.GradientTransformation:
    is_plain = not isinstance(smooth_l1, jax.core.Tracer) and not np.any(smooth_l1)

    def init(param):
        return ()

    def update(grad, state, param, step):
        slope = jnp.sign(param) if is_plain else param / jnp.sqrt(abs_sq(param) + smooth_l1**2)
        return grad + l1 * slope + l2 * param, state

    decay = leafwise(init, update, optax.EmptyState, needs_params=True)
    return where(decay, mask)
