"""Averages of the parameters along the way."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import HyperparameterError, check_number
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise


class PolyakAverageState(NamedTuple):
    """State of `polyak_average`."""

    count: jax.Array  # type: ignore[assignment]  # shape (), int32: updates done
    average: optax.Params  # like the parameters: their average so far, ready for use


@declare(needs_params=True, elementwise=True)
def polyak_average(decay: ArrayLike | str = 0.999) -> optax.GradientTransformation:
    r"""Keeps an average of the parameters for evaluation; training does not change.

    The last stage of a chain; it returns the updates as they are. Near the minimum the average is
    steadier than any single step. Read it with `optax.tree.get(state, "average")`; in `fit`, with
    `evaluated=lambda params, state: optax.tree.get(state, "average")`, the average is what is
    measured and returned. By default that is still the parameters.

    Equation:
        .. math:: \bar\theta_t = \bar\theta_{t-1} + w_t\, (\theta_t - \bar\theta_{t-1}), \qquad
            w_t = \begin{cases} 1 / t & \text{uniform} \\
                (1 - \beta) / (1 - \beta^t) & \text{else} \end{cases}

        with :math:`\theta_t` the parameters after update number :math:`t`, :math:`\bar\theta_t`
        their average, :math:`w_t` the weight of the newest, :math:`\beta` = `decay`.

    Args:
        decay: float in [0, 1): an exponential average over about 1 / (1 - decay) steps, corrected
            for its start; or `"uniform"`: the mean over all steps.

    Returns:
        An `optax.GradientTransformation` that needs the parameters; put it last.

    State:
        `PolyakAverageState`: `count` (int32) and `average`, one array for each parameter.

    Raises:
        ValueError: `decay` outside its range, or another word; (when updating) no parameters.

    References:
        Boris Polyak, Anatoli Juditsky (1992), Acceleration of Stochastic Approximation by
        Averaging.

    Use when: the learning rate does not fall to zero in the end.
    Avoid when: it does: the last parameters are then about as good and take less memory.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc, optax
        >>> tx, params = jc.chain(jc.sgd(1.0), jc.polyak_average("uniform")), jnp.zeros(1)
        >>> state = tx.init(params)
        >>> for _ in range(3):
        ...     updates, state = tx.update(-jnp.ones(1), state, params)
        ...     params = jc.apply_updates(params, updates)
        >>> print(params, optax.tree.get(state, "average"))
        [3.] [2.]
    """
    if isinstance(decay, str):
        if decay != "uniform":
            raise HyperparameterError("decay", 'be a number in [0, 1) or "uniform"', decay)
    else:
        decay = check_number("decay", decay, "[0, 1)")

    def init(param):
        return jnp.zeros_like(param)

    def update(grad, average, param, step):
        t = step.astype(param.real.dtype)
        weight = 1 / t if isinstance(decay, str) else (1 - decay) / (1 - decay**t)
        return grad, average + weight * (param + grad - average)

    return leafwise(init, update, PolyakAverageState, needs_params=True)
