"""The learning rate, the last stage of most chains, and its reduction on a plateau."""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards.core.checks import check_number
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.precision import dtype_of, is_inexact, is_still, unmoved


@declare(elementwise=True)
def scale_by_learning_rate(
    learning_rate: Annotated[optax.ScalarOrSchedule, "[0, inf)"], *, flip_sign: bool = True
) -> optax.GradientTransformation:
    r"""Multiplies updates by minus the learning rate, a number or a schedule.

    The last stage of a chain: it turns a direction of ascent into a step of descent. Optax's
    function, with the learning rate checked: a negative one increases the loss, and NaN ruins the
    parameters silently.

    Equation:
        .. math:: u_t \leftarrow -\eta(t)\, u_t

        with :math:`u_t` the update, :math:`\eta` = `learning_rate` and :math:`t` the number of
        earlier updates.

    Args:
        learning_rate: what the updates are multiplied by. A schedule is called with the number of
            earlier updates.
        flip_sign: whether to multiply by minus the learning rate, as Optax does, or by the learning
            rate.

    State:
        With a schedule `optax.ScaleByScheduleState`: `count`, int32 of shape (). Otherwise none.

    Raises:
        ValueError: the learning rate is negative, infinite, or not a number.

    References:
        Herbert Robbins, Sutton Monro (1951), A Stochastic Approximation Method.

    Use when: you write a chain of your own.
    Avoid when: you use a named optimizer such as `adam`, which ends with it.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.scale_by_learning_rate(0.1)
        >>> updates, _ = tx.update(jnp.array([1.0, -2.0]), tx.init(jnp.zeros(2)))
        >>> print(updates)
        [-0.1  0.2]
    """
    inner = optax.scale_by_learning_rate(learning_rate, flip_sign=flip_sign)

    @functools.wraps(inner.init)  # `cards.describe` reads what is inside
    def init(params):
        if callable(learning_rate):
            first = learning_rate(jnp.zeros((), jnp.int32))
            check_number("learning_rate(0)", first, "(-inf, inf)")
        return inner.init(params)

    return optax.GradientTransformation(init, _past_what_is_still(inner.update))


@declare(elementwise=True)
def reduce_on_plateau(
    factor: Annotated[float, "(0, 1)"] = 0.1,
    patience: Annotated[int, "[1, inf)"] = 10,
    rtol: Annotated[float, "[0, 1]"] = 1e-4,
    atol: float = 0.0,
    cooldown: Annotated[int, "[0, inf)"] = 0,
    accumulation_size: Annotated[int, "[1, inf)"] = 1,
    min_scale: Annotated[float, "[0, 1]"] = 0.0,
) -> optax.GradientTransformationExtraArgs:
    r"""Scales the updates down whenever a loss has stopped falling: performance scheduling.

    Optax's function from `optax.contrib`, with checked arguments, and an error if the loss is
    missing. Pass the loss to each update as `value`: `tx.update(grads, state, params, value=loss)`.
    `training.fit` passes that of each batch; set `accumulation_size` to the number of batches of an
    epoch.

    Equation:
        .. math:: u_t \leftarrow s\, u_t, \qquad s \leftarrow \max(f s, s_{\min})
            \text{ after } p \text{ values without } v < (1 - r)\, v_{\text{best}} - a

        with :math:`u_t` the update, :math:`s` the scale, 1 at first, :math:`v` the loss, :math:`f`
        = `factor`, :math:`p` = `patience`, :math:`r` = `rtol`, :math:`a` = `atol`, :math:`s_{\min}`
        = `min_scale`.

    Args:
        factor: what the scale is multiplied by.
        patience: values without improvement before each reduction.
        rtol: relative improvement that counts.
        atol: float in [0, inf); absolute improvement that counts. `rtol` and `atol` must not both
            be 0.
        cooldown: values to wait after a reduction.
        accumulation_size: number of values that are averaged into one.
        min_scale: the smallest scale.

    Returns:
        An `optax.GradientTransformationExtraArgs`; `update` takes `value=`, a scalar.

    State:
        `optax.contrib.ReduceLROnPlateauState`: six scalars, one of them `scale`.

    Raises:
        ValueError: an argument outside its range; (when updating) no `value`.

    References:
        Andrew Senior et al. (2013), An empirical study of learning rates in deep neural networks
        for speech recognition. Géron (2017), chapter 11, "Learning Rate Scheduling": performance
        scheduling.

    Use when: you do not know beforehand how long training will take.
    Avoid when: you only have noisy losses of single batches: average over many.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.reduce_on_plateau(factor=0.5, patience=2)
        >>> state = tx.init(jnp.zeros(1))
        >>> for loss in (3.0, 2.0, 2.0, 2.0):
        ...     updates, state = tx.update(jnp.ones(1), state, value=loss)
        >>> print(updates)
        [0.5]
    """
    atol = check_number("atol", atol, "(0, inf)" if rtol == 0 else "[0, inf)")
    inner = optax.contrib.reduce_on_plateau(
        factor, patience, rtol, atol, cooldown, accumulation_size, min_scale
    )
    scale = _past_what_is_still(inner.update)

    def update(updates, state, params=None, *, value=None, **extra_args):
        if value is None:
            raise NamedError(
                "needs the loss, got no value: call update(updates, state, params, value=loss)",
            )
        # Optax mixes int32 and float32 in its averages.
        with jax.numpy_dtype_promotion("standard"):
            return scale(updates, state, params, value=jnp.asarray(value), **extra_args)

    def init(params):
        # Optax reads the dtypes. Integers would change the result, and abstract leaves have dtypes.
        inexact = [leaf for leaf in jax.tree.leaves(params) if is_inexact(leaf)]
        return inner.init([jnp.zeros((), dtype_of(leaf)) for leaf in inexact])

    return optax.GradientTransformationExtraArgs(init, update)


def _past_what_is_still(scale: Callable[..., Any]) -> Callable[..., Any]:
    """The update `scale`, applied only to the leaves that have a gradient."""

    @functools.wraps(scale)
    def update(updates, state, params=None, **extra_args):
        leaves: list[Any] = jax.tree.leaves(updates)
        if all(map(is_inexact, leaves)):
            return scale(updates, state, params, **extra_args)
        treedef: Any = jax.tree.structure(updates)
        weights = [None] * len(leaves) if params is None else treedef.flatten_up_to(params)
        pairs = zip(leaves, weights, strict=True)
        still = [is_still(leaf, weight) and not is_inexact(leaf) for leaf, weight in pairs]
        moving = [None if stays else leaf for stays, leaf in zip(still, leaves, strict=True)]
        scaled, state = scale(moving, state, params, **extra_args)
        for index in (index for index, stays in enumerate(still) if stays):
            scaled[index] = unmoved(leaves[index], weights[index])
        return treedef.unflatten(scaled), state

    return update
