"""FTRL-Proximal: sparse weights by following the regularised leader."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise, value_at


class ScaleByFtrlState(NamedTuple):
    """State of `scale_by_ftrl`."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    accumulator: optax.Updates  # like the parameters: sum of squared gradients
    linear: optax.Updates  # like the parameters: the linear term of the objective


@declare(needs_params=True, elementwise=True, takes_complex=False)
def scale_by_ftrl(
    learning_rate: Annotated[optax.ScalarOrSchedule, "(0, inf)"],
    learning_rate_power: Annotated[ArrayLike, "(-inf, 0]"] = -0.5,
    initial_accumulator_value: Annotated[ArrayLike, "[0, inf)"] = 0.1,
    l1_regularization_strength: Annotated[ArrayLike, "[0, inf)"] = 0.0,
    l2_regularization_strength: Annotated[ArrayLike, "[0, inf)"] = 0.0,
    l2_shrinkage_regularization_strength: Annotated[ArrayLike, "[0, inf)"] = 0.0,
    beta: Annotated[ArrayLike, "[0, inf)"] = 0.0,
) -> optax.GradientTransformation:
    r"""Follow the regularised leader: the parameters that were best so far, with exact zeros.

    Each step solves for the parameters again, in closed form, from the sum of all gradients,
    AdaGrad's rates, and an ℓ1 and an ℓ2 penalty. The ℓ1 penalty gives exact zeros even from
    gradients of single examples, where a subgradient would only come close to zero. The results and
    the argument names are those of Keras. The learning rate is part of the solution, so the update
    is a whole step and must not be scaled afterwards.

    Equation:
        .. math::
            n_t &= n_{t-1} + g_t^2, \qquad
            \sigma_t = \frac{n_t^{-p} - n_{t-1}^{-p}}{\eta} \\
            z_t &= z_{t-1} + g_t + 2 \lambda_s \theta_{t-1} - \sigma_t\, \theta_{t-1} \\
            \theta_t &= \frac{\mathrm{clip}(z_t, -\lambda_1, \lambda_1) - z_t}
                {(n_t^{-p} + \beta) / \eta + 2 \lambda_2}

        with :math:`g_t` the gradient, :math:`\theta_t` the parameters, :math:`n_t` the sum of the
        squared gradients, :math:`\sigma_t` the growth of the inverse learning rate, :math:`z_t` the
        linear term of the objective, :math:`z_0 = 0`, :math:`n_0` = `initial_accumulator_value`,
        :math:`\eta` = `learning_rate`, :math:`p` = `learning_rate_power`, :math:`\beta` = `beta`,
        and :math:`\lambda_1, \lambda_2, \lambda_s` the strengths of ℓ1, ℓ2 and shrinkage. The
        update is :math:`\theta_t - \theta_{t-1}`.

    Args:
        learning_rate: AdaGrad's learning rate. A schedule is called with the number of earlier
            updates.
        learning_rate_power: how rates fall with the squared gradients. -0.5 is AdaGrad's; 0 keeps
            them constant.
        initial_accumulator_value: the sum of squares before the first step.
        l1_regularization_strength: strength of the ℓ1 penalty; larger values give more zeros.
        l2_regularization_strength: strength of the ℓ2 penalty.
        l2_shrinkage_regularization_strength: strength of a second ℓ2 penalty, on the loss itself,
            which shrinks weights only when they are updated.
        beta: the paper's smoothing of the first rates.

    Returns:
        An `optax.GradientTransformation` that needs the parameters; its updates are whole steps.

    State:
        `ScaleByFtrlState`: `count` (int32), `accumulator` and `linear`, each with one array for
        each parameter.

    Raises:
        ValueError: an argument outside its range; (when updating) no parameters, or complex ones.

    References:
        Brendan McMahan et al. (2013), Ad Click Prediction: a View from the Trenches. François
        Chollet et al. (2015), Keras: `Ftrl`. Géron (2017), chapter 11, "ℓ1 and ℓ2 Regularization".

    Use when: a linear or shallow model of many sparse features must stay small.
    Avoid when: the network is deep or fine-tuned, or the learning rate falls: all weights then go
        to zero.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_ftrl(0.5, l1_regularization_strength=1.0)
        >>> params = jnp.zeros(2)
        >>> updates, _ = tx.update(jnp.array([0.9, -3.0]), tx.init(params), params)
        >>> updates[0] == 0, f"{updates[1]:.3f}"
        (Array(True, dtype=bool), '0.331')
    """
    power: Any = learning_rate_power
    l1: Any = l1_regularization_strength
    l2: Any = l2_regularization_strength
    shrinkage: Any = l2_shrinkage_regularization_strength

    def init(param):
        if jnp.iscomplexobj(param):
            raise HyperparameterError("params", "be real", param.dtype)
        return jnp.full_like(param, initial_accumulator_value), jnp.zeros_like(param)

    def update(grad, state, param, step):
        n, z = state
        rate = value_at(learning_rate, step, param)
        n_new = n + grad**2
        root, root_new = n**-power, n_new**-power
        z = z + grad + 2 * shrinkage * param - (root_new - root) / rate * param
        # Where all gradients were zero, the curvature is zero and so is z.
        curvature = jnp.maximum((root_new + beta) / rate + 2 * l2, jnp.finfo(z.dtype).tiny)
        return (jnp.clip(z, -l1, l1) - z) / curvature - param, (n_new, z)

    return leafwise(init, update, ScaleByFtrlState, needs_params=True)


@declare(needs_params=True, elementwise=True, takes_complex=False)
def ftrl(
    learning_rate: optax.ScalarOrSchedule,
    learning_rate_power: ArrayLike = -0.5,
    initial_accumulator_value: ArrayLike = 0.1,
    l1_regularization_strength: ArrayLike = 0.0,
    l2_regularization_strength: ArrayLike = 0.0,
    l2_shrinkage_regularization_strength: ArrayLike = 0.0,
    beta: ArrayLike = 0.0,
) -> optax.GradientTransformation:
    r"""FTRL-Proximal: follow the regularised leader, with exact zeros.

    The same as `scale_by_ftrl`, whose updates are whole steps already, under the name of an
    optimizer. The arguments are those of Keras's `Ftrl`.

    Equation:
        .. math:: \theta_t = \frac{\mathrm{clip}(z_t, -\lambda_1, \lambda_1) - z_t}
            {(n_t^{-p} + \beta) / \eta + 2 \lambda_2}

        with the symbols of `scale_by_ftrl`.

    Args:
        learning_rate, learning_rate_power, initial_accumulator_value: as in `scale_by_ftrl`.
        l1_regularization_strength, l2_regularization_strength: as in `scale_by_ftrl`.
        l2_shrinkage_regularization_strength, beta: as in `scale_by_ftrl`.

    State:
        As in `scale_by_ftrl`.

    References:
        Brendan McMahan et al. (2013), Ad Click Prediction: a View from the Trenches. Géron (2017),
        chapter 11, "ℓ1 and ℓ2 Regularization".

    Use when: a linear or shallow model of many sparse features must stay small.
    Avoid when: the network is deep, or fine-tuned: the first step forgets the initial weights.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.ftrl(0.5, l1_regularization_strength=1.0), jnp.zeros(2)
        >>> updates, _ = tx.update(jnp.array([0.9, -3.0]), tx.init(params), params)
        >>> updates[0] == 0, f"{updates[1]:.3f}"
        (Array(True, dtype=bool), '0.331')
    """
    return scale_by_ftrl(
        learning_rate,
        learning_rate_power,
        initial_accumulator_value,
        l1_regularization_strength,
        l2_regularization_strength,
        l2_shrinkage_regularization_strength,
        beta,
    )
