"""L-BFGS: steps of a Newton-like method, by a line search."""

import inspect
from typing import Annotated

import optax

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.trees import check_parameters

# Optax's default, the same object.
ZOOM = inspect.signature(optax.lbfgs).parameters["linesearch"].default


@declare(needs_params=True)
def lbfgs(
    learning_rate: Annotated[optax.ScalarOrSchedule, "[0, inf)"] | None = None,
    memory_size: Annotated[int, "[1, inf)"] = 10,
    scale_init_precond: bool = True,
    linesearch: optax.GradientTransformation | None = ZOOM,
) -> optax.GradientTransformationExtraArgs:
    r"""L-BFGS: a quasi-Newton method for small data and full batches, without a learning rate.

    It approximates the inverse of the Hessian from the last steps and changes of the gradient. A
    line search then chooses the length of the step, for which it measures the loss at other
    points. Optax's function, unchanged, without this package's support of half precision and of
    gradients that are `None`. `training.fit` gives it all that it needs; in your own
    loop, pass `value`, `grad` and `value_fn` to `update`.

    Equation:
        .. math::
            \theta_{t+1} &= \theta_t - \eta_t\, P_t\, g_t \\
            P_{t,k+1} &= V_k^\top P_{t,k} V_k + \rho_k\, s_k s_k^\top, \qquad
                V_k = I - \rho_k\, y_k s_k^\top, \qquad \rho_k = \frac{1}{y_k^\top s_k}

        with :math:`\theta_t` the parameters as one vector, :math:`g_t` the gradient,
        :math:`\eta_t` the length found by the line search or `learning_rate`, :math:`P_t` the last
        :math:`P_{t,k}`, :math:`k` one of the last `memory_size` steps,
        :math:`s_k = \theta_{k+1} - \theta_k`, :math:`y_k = g_{k+1} - g_k`, :math:`I` the identity;
        :math:`V_k` and :math:`\rho_k` are short for the terms on the right.

    Args:
        learning_rate: float in [0, inf), or a schedule; factor of the step before the line search.
            Default: 1.
        memory_size: int in [1, inf); the number of last steps to remember.
        scale_init_precond: whether the first matrix is the identity times
            :math:`s^\top y / y^\top y` of the last step. Otherwise it is the identity.
        linesearch: a line search, such as `optax.scale_by_zoom_linesearch`, or `None`. The default
            measures up to 20 points, the first of them at a factor of 1.

    Returns:
        An `optax.GradientTransformationExtraArgs` that needs the parameters.

    State:
        That of `optax.lbfgs`: with the defaults, 2 `memory_size` + 3 arrays like each parameter.

    Raises:
        ValueError: a number outside its range; (when updating) no parameters.

    References:
        Dong Liu, Jorge Nocedal (1989), On the Limited Memory BFGS Method for Large Scale
        Optimization. Optax: `lbfgs`.

    Use when: the data are so few that each step can use all of them: `batch_size` is their number.
    Avoid when: batches are drawn at random: changes of the gradient are then mostly noise. Or when
        memory is short.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc, optax
        >>> loss = lambda x: jnp.sum(jnp.array([1.0, 30.0]) * x**2)
        >>> tx, params = jc.lbfgs(), jnp.array([1.0, 1.0])
        >>> state = tx.init(params)
        >>> for _ in range(5):
        ...     value, grad = optax.value_and_grad_from_state(loss)(params, state=state)
        ...     given = {"value": value, "grad": grad, "value_fn": loss}
        ...     updates, state = tx.update(grad, state, params, **given)
        ...     params = jc.apply_updates(params, updates)
        >>> bool(loss(params) < 1e-6)
        True
    """
    tx = optax.lbfgs(learning_rate, memory_size, scale_init_precond, linesearch)

    def init(params):
        check_parameters(params)
        return tx.init(params)

    return tx._replace(init=init)
