"""The named optimizers: each is the chain that its last lines show."""

from typing import Any

import jax
import optax
from optax import chain

from jaxopt_cards._checks import check_number, named_in_errors
from jaxopt_cards.transforms.adaptive import scale_by_adam, scale_by_rms, scale_by_stddev
from jaxopt_cards.transforms.decay import add_decayed_weights
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate
from jaxopt_cards.transforms.momentum import trace


@named_in_errors
def sgd(
    learning_rate: optax.ScalarOrSchedule,
    momentum: optax.ScalarOrSchedule | None = None,
    nesterov: bool = False,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Gradient descent, with or without momentum.

    A step against the gradient of the batch at hand. Without momentum it keeps no state at all; the
    chain is then the learning rate alone.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta\, g_t

        with :math:`\eta` = `learning_rate`; with `momentum` as in `trace`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        momentum: float in [0, 1], a schedule, or `None` for none.
        nesterov: bool; Nesterov's momentum instead of the heavy ball.
        accumulator_dtype: dtype of the accumulator; default that of the parameters, float32 at
            least.

    Returns:
        An `optax.GradientTransformation`.

    State:
        With momentum `trace`, one array like each parameter; else none.

    Raises:
        ValueError: a number outside its range.

    References:
        Herbert Robbins, Sutton Monro (1951), A Stochastic Approximation Method. Chapter 11, "Faster
        Optimizers".

    Use when: as a baseline, or with momentum and a schedule for the last bit of accuracy.
    Avoid when: there is no time to tune the learning rate.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.sgd(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.8]
    """
    return chain(
        _momentum_stage(momentum, nesterov, accumulator_dtype),
        scale_by_learning_rate(learning_rate),
    )


@named_in_errors
def momentum(
    learning_rate: optax.ScalarOrSchedule,
    momentum: optax.ScalarOrSchedule = 0.9,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Gradient descent with the heavy ball's momentum.

    The step is a decaying sum of the gradients so far. `sgd` with `momentum`, by its own name.

    Equation:
        .. math::
            m_t &= g_t + \beta\, m_{t-1} \\
            \theta_t &= \theta_{t-1} - \eta\, m_t

        with :math:`\eta` = `learning_rate`, :math:`\beta` = `momentum`, :math:`m_0 = 0`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        momentum: float in [0, 1], or a schedule; the chapter's 0.9.
        accumulator_dtype: dtype of the accumulator; default that of the parameters, float32 at
            least.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.TraceState`: `trace`, one array like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Boris Polyak (1964), Some methods of speeding up the convergence of iteration methods.
        Chapter 11, "Momentum Optimization".

    Use when: plain gradient descent zigzags through a valley.
    Avoid when: it overshoots; `nesterov` brakes earlier at the same cost.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.momentum(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.8]
    """
    return chain(
        _momentum_stage(momentum, False, accumulator_dtype),
        scale_by_learning_rate(learning_rate),
    )


@named_in_errors
def nesterov(
    learning_rate: optax.ScalarOrSchedule,
    momentum: optax.ScalarOrSchedule = 0.9,
    accumulator_dtype: Any = None,
) -> optax.GradientTransformation:
    r"""Gradient descent with Nesterov's momentum, in its usual reformulation.

    The step looks ahead along the momentum, so it brakes before the heavy ball would. `sgd` with
    `momentum` and `nesterov=True`, by its own name.

    Equation:
        .. math::
            m_t &= g_t + \beta\, m_{t-1} \\
            \theta_t &= \theta_{t-1} - \eta\, (g_t + \beta\, m_t)

        with :math:`\eta` = `learning_rate`, :math:`\beta` = `momentum`, :math:`m_0 = 0`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        momentum: float in [0, 1], or a schedule; the chapter's 0.9.
        accumulator_dtype: dtype of the accumulator; default that of the parameters, float32 at
            least.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.TraceState`: `trace`, one array like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Yurii Nesterov (1983), A method for solving the convex programming problem with convergence
        rate O(1/k²). Ilya Sutskever et al. (2013), On the importance of initialization and momentum
        in deep learning. Chapter 11, "Nesterov Accelerated Gradient".

    Use when: wherever `momentum` is used; it is nearly always faster.
    Avoid when: gradients are so noisy that looking ahead sees nothing.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.nesterov(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.62]
    """
    return chain(
        _momentum_stage(momentum, True, accumulator_dtype),
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
        _momentum_stage(momentum, nesterov, None),
    )


@named_in_errors
def adam(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    mu_dtype: Any = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Adam: momentum, and each weight's step divided by its gradients' root mean square.

    The learning rate is about the size of a step, whatever the scale of the gradients, so the
    paper's 0.001 works often. PyTorch is the same; Keras takes `eps` 1e-7.

    Equation:
        .. math::
            \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1)\, g_t \\
            \nu_t &= \beta_2 \nu_{t-1} + (1 - \beta_2)\, g_t^2 \\
            \theta_t &= \theta_{t-1} - \eta\,
                \frac{\mu_t / (1 - \beta_1^t)}{\sqrt{\nu_t / (1 - \beta_2^t) + \bar\epsilon}
                + \epsilon}

        with :math:`\eta` = `learning_rate`; the other symbols as in `scale_by_adam`.

    Args:
        learning_rate: float in [0, inf), or a schedule. The paper's 0.001 is a good start.
        b1: float in [0, 1); decay of the mean. The paper's 0.9.
        b2: float in [0, 1); decay of the mean square. The paper's 0.999.
        eps: float in (0, inf), or 0 where `eps_root` is not; keeps the division finite. The paper's
            1e-8.
        eps_root: float in [0, inf); inside the root, for gradients through the update.
        mu_dtype: dtype of `mu`; default that of the parameters, float32 at least.
        nesterov: bool; Nadam's mean, which looks one step ahead.

    Returns:
        An `optax.GradientTransformation`.

    State:
        `optax.ScaleByAdamState`: `count`, and `mu` and `nu`, one array each like each parameter.

    Raises:
        ValueError: a number outside its range.

    References:
        Diederik Kingma, Jimmy Ba (2015), Adam: A Method for Stochastic Optimization. Chapter 11,
        "Adam Optimization".

    Use when: you want the optimizer to try first.
    Avoid when: weights should decay; use `adamw`, where decay does what it says.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adam(0.1), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.9]
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        scale_by_learning_rate(learning_rate),
    )


@named_in_errors
def adamw(
    learning_rate: optax.ScalarOrSchedule,
    b1: jax.typing.ArrayLike = 0.9,
    b2: jax.typing.ArrayLike = 0.999,
    eps: jax.typing.ArrayLike = 1e-8,
    eps_root: jax.typing.ArrayLike = 0.0,
    mu_dtype: Any = None,
    weight_decay: optax.ScalarOrSchedule = 1e-4,
    mask: Any = None,
    *,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    r"""Adam with decoupled weight decay.

    The decay acts on the weights themselves, not through the gradients, where Adam's division would
    undo it. As in Optax and PyTorch it is scaled by the learning rate; PyTorch's default is 0.01.

    Equation:
        .. math:: \theta_t = \theta_{t-1} - \eta \left( u_t + \lambda\, \theta_{t-1} \right)

        with :math:`u_t` as in `scale_by_adam`, :math:`\eta` = `learning_rate`, :math:`\lambda` =
        `weight_decay`.

    Args:
        learning_rate: float in [0, inf), or a schedule.
        b1: float in [0, 1); decay of the mean. The paper's 0.9.
        b2: float in [0, 1); decay of the mean square. The paper's 0.999.
        eps: float in (0, inf), or 0 where `eps_root` is not; keeps the division finite. The paper's
            1e-8.
        eps_root: float in [0, inf); inside the root, for gradients through the update.
        mu_dtype: dtype of `mu`; default that of the parameters, float32 at least.
        weight_decay: float in [0, inf), or a schedule. Optax's default 1e-4.
        mask: where to decay: a tree of booleans, or a function from the parameters to one.
        nesterov: bool; Nadam's mean, which looks one step ahead.

    Returns:
        An `optax.GradientTransformation` that needs the parameters.

    State:
        `optax.ScaleByAdamState`: `count`, and `mu` and `nu`, one array each like each parameter.

    Raises:
        ValueError: a number outside its range; (when updating) no parameters.

    References:
        Ilya Loshchilov, Frank Hutter (2019), Decoupled Weight Decay Regularization.

    Use when: a network overfits under Adam; with a decaying rate, the usual choice today.
    Avoid when: exact zeros are wanted, which decay never gives.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adamw(0.1, weight_decay=0.5), jnp.array([1.0])
        >>> updates, state = tx.update(2 * params, tx.init(params), params)
        >>> print(jc.apply_updates(params, updates))
        [0.85]
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )


def _momentum_stage(
    momentum: optax.ScalarOrSchedule | None, nesterov: bool, accumulator_dtype: Any
) -> optax.GradientTransformation:
    """The trace, or nothing; an error speaks of `momentum`, as the optimizers call its decay."""
    if momentum is None:
        return optax.identity()
    check_number("trace", "momentum", momentum, "[0, 1]", or_schedule=True)
    return trace(momentum, nesterov=nesterov, accumulator_dtype=accumulator_dtype)
