"""Follow the regularised leader."""

import jax
import optax

from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.transforms.ftrl import scale_by_ftrl


@named_in_errors
def ftrl(
    learning_rate: optax.ScalarOrSchedule,
    learning_rate_power: jax.typing.ArrayLike = -0.5,
    initial_accumulator_value: jax.typing.ArrayLike = 0.1,
    l1_regularization_strength: jax.typing.ArrayLike = 0.0,
    l2_regularization_strength: jax.typing.ArrayLike = 0.0,
    l2_shrinkage_regularization_strength: jax.typing.ArrayLike = 0.0,
    beta: jax.typing.ArrayLike = 0.0,
) -> optax.GradientTransformation:
    r"""FTRL-Proximal: follow the regularised leader, with exact zeros.

    `scale_by_ftrl` by the name of an optimizer; its updates are whole steps already. The arguments
    are those of Keras's `Ftrl`.

    Equation:
        .. math:: \theta_t = \frac{\mathrm{clip}(z_t, -\lambda_1, \lambda_1) - z_t}
            {(n_t^{-p} + \beta) / \eta + 2 \lambda_2}

        with the symbols of `scale_by_ftrl`.

    Args:
        learning_rate: float in (0, inf), or a schedule.
        learning_rate_power: float in (-inf, 0]; how rates fall with the squared gradients.
        initial_accumulator_value: float in [0, inf); the sum of squares before the first step.
        l1_regularization_strength: float in [0, inf); larger values give more zeros.
        l2_regularization_strength: float in [0, inf).
        l2_shrinkage_regularization_strength: float in [0, inf); a penalty on the loss itself.
        beta: float in [0, inf); the paper's smoothing of the first rates.

    Returns:
        An `optax.GradientTransformation` that needs the parameters.

    State:
        `ScaleByFtrlState`: `count`, `accumulator` and `linear`, one array each like each parameter.

    Raises:
        ValueError: a number outside its range; (when updating) no parameters.

    References:
        Brendan McMahan et al. (2013), Ad Click Prediction: a View from the Trenches. Chapter 11,
        "ℓ1 and ℓ2 Regularization".

    Use when: a linear or shallow model of many sparse features must stay small.
    Avoid when: the network is deep, or fine-tuned: the start is forgotten at the first step.

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
