"""Clipping: bounds on the size of gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards._checks import check_number
from jaxopt_cards.selection import path_name
from jaxopt_cards.transforms._leafwise import in_precision, leafwise


def clip(max_delta: jax.typing.ArrayLike) -> optax.GradientTransformation:
    r"""Clips each element of the updates to an interval around zero.

    One exploding component can then move no weight far. The direction of the gradient changes:
    large components shrink, small ones stay.

    Equation:
        .. math:: u_i \leftarrow \min(\max(g_i, -\delta), \delta)

        with :math:`\delta` = `max_delta`.

    Args:
        max_delta: float in (0, inf); the largest absolute value of an element. The chapter uses
            1.0.

    Returns:
        An `optax.GradientTransformation`; updates keep shapes and dtypes.

    State:
        None.

    Raises:
        ValueError: `max_delta` is not in (0, inf).

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Gradient Clipping".

    Use when: single elements of the gradient explode.
    Avoid when: the direction should stay as it is; use `clip_by_global_norm`.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.clip(1.0)
        >>> updates, _ = tx.update(jnp.array([0.5, -3.0]), tx.init(jnp.zeros(2)))
        >>> print(updates)
        [ 0.5 -1. ]
    """
    check_number("clip", "max_delta", max_delta, "(0, inf)")
    bound: Any = max_delta

    def init(param):
        return ()

    def update(grad, state, param, step):
        return jnp.clip(grad, -bound, bound), state

    return leafwise(init, update, optax.EmptyState)


def clip_by_global_norm(max_norm: jax.typing.ArrayLike) -> optax.GradientTransformation:
    r"""Shrinks the whole tree of updates so that its norm stays within a bound.

    The norm is taken over all elements of all leaves together, so the direction is kept. Half
    precision updates are summed in float32, where Optax sums in their own precision.

    Equation:
        .. math:: u \leftarrow g \cdot \min\left(1, \frac{c}{\lVert g \rVert_2}\right), \qquad
            \lVert g \rVert_2 = \sqrt{\textstyle\sum_i |g_i|^2}

        with :math:`c` = `max_norm`.

    Args:
        max_norm: float in (0, inf); the largest norm of all updates together.

    Returns:
        An `optax.GradientTransformation`; updates keep shapes and dtypes.

    State:
        None.

    Raises:
        ValueError: `max_norm` is not in (0, inf).

    References:
        Razvan Pascanu, Tomas Mikolov, Yoshua Bengio (2013), On the difficulty of training recurrent
        neural networks. Chapter 11, "Gradient Clipping".

    Use when: gradients explode now and then; the first stage of a chain.
    Avoid when: part of the tree is frozen: its gradients count too. Freeze before `grad`.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.clip_by_global_norm(1.0)
        >>> updates, _ = tx.update({"a": jnp.array([3.0]), "b": jnp.array([4.0])}, tx.init({}))
        >>> print(updates["a"], updates["b"])
        [0.6] [0.8]
    """
    check_number("clip_by_global_norm", "max_norm", max_norm, "(0, inf)")

    def update(updates, state, params=None):
        for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
                raise ValueError(
                    f"clip_by_global_norm: at {path_name(path)} the gradient must be of floating "
                    f"point, got {jnp.result_type(leaf)}"
                )
        wide = jax.tree.map(lambda grad: in_precision(32, jnp.asarray(grad)), updates)
        norm = optax.tree.norm(wide)
        factor = jnp.where(norm < max_norm, 1.0, max_norm / norm)
        clipped = jax.tree.map(
            lambda grad, old: (grad * factor.astype(grad.dtype)).astype(jnp.result_type(old)),
            wide,
            updates,
        )
        return clipped, state

    return optax.GradientTransformation(optax.init_empty_state, update)
