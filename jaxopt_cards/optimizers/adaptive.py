"""Gradient descent with a rate for each weight."""

from typing import Any

import jax
import optax
from optax import chain, identity

from jaxopt_cards._named_errors import named_in_errors
from jaxopt_cards.optimizers._momentum import momentum_stage
from jaxopt_cards.selection import where
from jaxopt_cards.transforms.adaptive import scale_by_adadelta, scale_by_rss
from jaxopt_cards.transforms.decay import add_decayed_weights
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate
from jaxopt_cards.transforms.rmsprop import scale_by_rms, scale_by_stddev


@named_in_errors
def adagrad(
    learning_rate: optax.ScalarOrSchedule,
    initial_accumulator_value: jax.typing.ArrayLike = 0.1,
    eps: jax.typing.ArrayLike = 1e-7,
) -> optax.GradientTransformation:
    r"""AdaGrad: gradient descent with steps that shrink fastest where gradients have been large.

    Each weight's gradient is divided by the root of the sum of all its squares so far. The chapter
    warns of it for deep networks: the sum never shrinks. Keras starts at 0.1 too, PyTorch at 0.

    Equation:
        .. math::
            s_t &= s_{t-1} + g_t^2 \\
            \theta_t &= \theta_{t-1} - \frac{\eta\, g_t}{\sqrt{s_t + \epsilon}}

        with :math:`\eta` = `learning_rate`, :math:`s_0` = `initial_accumulator_value`,
        :math:`\epsilon` = `eps`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        initial_accumulator_value: float in [0, inf); the sum before the first step.
        eps: float in [0, inf); keeps the division finite.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.ScaleByRssState`: `sum_of_squares`, one real array like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        John Duchi, Elad Hazan, Yoram Singer (2011), Adaptive Subgradient Methods for Online
        Learning and Stochastic Optimization. Chapter 11, "AdaGrad".

    Use when: the model is linear or shallow and its features are sparse.
    Avoid when: the network is deep: training stops before it has converged.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adagrad(0.1, 0.0), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.9]
    """
    return chain(
        scale_by_rss(initial_accumulator_value, eps),
        scale_by_learning_rate(learning_rate),
    )


@named_in_errors
def adadelta(
    learning_rate: optax.ScalarOrSchedule = 1.0,
    rho: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-6,
    weight_decay: optax.ScalarOrSchedule = 0.0,
    weight_decay_mask: Any = None,
) -> optax.GradientTransformation:
    r"""Adadelta: steps whose size comes from the steps before, not from a learning rate.

    The gradient is divided by its usual size and multiplied by that of the recent steps. Optax's
    default for the learning rate, `None`, cannot be used; here it is the paper's 1. The decay, if
    any, is that of an ℓ2 penalty: it is added to the gradients before they are scaled.

    Equation:
        .. math::
            e_t &= \rho\, e_{t-1} + (1 - \rho)\, g_t^2 \\
            u_t &= \sqrt{\frac{x_{t-1} + \epsilon}{e_t + \epsilon}}\; g_t, \qquad
            x_t = \rho\, x_{t-1} + (1 - \rho)\, u_t^2 \\
            \theta_t &= \theta_{t-1} - \eta\, u_t

        with :math:`\eta` = `learning_rate`, :math:`\rho` = `rho`, :math:`\epsilon` = `eps`.

    Args:
        learning_rate: float in [0, inf), or a schedule. The paper's 1.
        rho: float in [0, 1); how long both means remember.
        eps: float in (0, inf); sets the size of the first steps.
        weight_decay: float in (-inf, inf), or a schedule; strength of the ℓ2 penalty.
        weight_decay_mask: where to decay: a regular expression over paths, a tree of booleans, or a
            function from the parameters to one.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.ScaleByAdaDeltaState`: `e_g` and `e_x`, one real array each like each parameter.

    Raises:
        ValueError: a number outside its range; (when updating, if weights decay) no
            parameters.

    References:
        Matthew Zeiler (2012), ADADELTA: An Adaptive Learning Rate Method.

    Use when: no learning rate can be tuned at all.
    Avoid when: one can: Adam gets further sooner.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adadelta(rho=0.75, eps=1e-2), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(f"{jc.apply_updates(params, updates)[0]:.3f}")
        0.801
    """
    # Without decay there is no need of the parameters; a mask shows in the state, as in Optax.
    is_zero = isinstance(weight_decay, int | float) and weight_decay == 0
    decays = not is_zero or weight_decay_mask is not None
    decay = add_decayed_weights(weight_decay) if decays else identity()
    return chain(
        where("adadelta", decay, weight_decay_mask, "weight_decay_mask"),
        scale_by_adadelta(rho, eps),
        scale_by_learning_rate(learning_rate),
    )


@named_in_errors
def rmsprop(
    learning_rate: optax.ScalarOrSchedule,
    decay: jax.typing.ArrayLike = 0.9,
    eps: jax.typing.ArrayLike = 1e-8,
    initial_scale: jax.typing.ArrayLike = 0.0,
    eps_in_sqrt: bool = True,
    centered: bool = False,
    momentum: optax.ScalarOrSchedule | None = None,
    nesterov: bool = False,
    bias_correction: bool = False,
) -> optax.GradientTransformation:
    r"""Gradient descent with each weight's step divided by its gradients' root mean square.

    The momentum, if any, accumulates steps that the learning rate has already scaled, as in Optax
    and Keras; PyTorch scales afterwards, which differs only when the rate changes. PyTorch's `eps`
    stands outside the root, and its default decay is 0.99.

    Equation:
        .. math::
            \nu_t &= \beta\, \nu_{t-1} + (1 - \beta)\, g_t^2 \\
            \theta_t &= \theta_{t-1} - \frac{\eta\, g_t}{\sqrt{\nu_t + \epsilon}}

        with :math:`\eta` = `learning_rate`, :math:`\beta` = `decay`, :math:`\epsilon` = `eps`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        decay: float in [0, 1); Hinton's 0.9.
        eps: float in (0, inf); keeps the division finite.
        initial_scale: float in [0, inf); the mean square before the first step.
        eps_in_sqrt: bool; `eps` inside the root (default) or added to it.
        centered: bool; divide by the standard deviation instead, as in `scale_by_stddev`.
        momentum: float in [0, 1], a schedule, or `None` for none.
        nesterov: bool; Nesterov's momentum instead of the heavy ball.
        bias_correction: bool; correct the means for their start, as Adam does.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `nu`, one array like each parameter; `mu` too if centred; `trace` too with momentum.

    Raises:
        ValueError: a number outside its range.

    References:
        Tijmen Tieleman, Geoffrey Hinton (2012), Lecture 6.5: RMSProp. Alex Graves (2013),
        Generating Sequences With Recurrent Neural Networks. Chapter 11, "RMSProp".

    Use when: gradients of different layers differ in size, in recurrent networks above all.
    Avoid when: Adam would do: it adds momentum and bias correction.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.rmsprop(0.1, decay=0.75), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.8]
    """
    scale = scale_by_stddev if centered else scale_by_rms
    return chain(
        scale(decay, eps, initial_scale, eps_in_sqrt, bias_correction),
        scale_by_learning_rate(learning_rate),
        momentum_stage(momentum, nesterov, None),
    )
