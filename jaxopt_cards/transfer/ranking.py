"""A ranking loss."""

from typing import Annotated

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import HyperparameterError, check_float_dtype
from jaxopt_cards.core.declaration import declare


@declare
def margin_ranking_loss(
    good: jax.Array, bad: jax.Array, margin: Annotated[ArrayLike, "[0, inf)"] = 1.0
) -> jax.Array:
    r"""Computes a hinge loss that ranks good examples above bad ones by a margin.

    The loss depends only on the difference of two scores. It needs no classes and no probabilities.
    If the good score is higher by the margin or more, loss and gradient are zero.

    Equation:
        .. math:: \ell = \max(0, m - s_{\text{good}} + s_{\text{bad}})

        with :math:`m` = `margin`.

    Args:
        good: scores of good examples, floating point, any shape.
        bad: scores of the corresponding bad examples, of the same shape and dtype.
        margin: by how much the good score should be higher. The paper's 1.

    Returns:
        An array of losses, one for each pair.

    Raises:
        ValueError: shapes or dtypes differ, or dtypes are not floating-point; the margin is outside
            its range.

    References:
        Ronan Collobert, Jason Weston (2008), A Unified Architecture for Natural Language
        Processing. Géron (2017), chapter 11, "Pretraining on an Auxiliary Task".

    Use when: you can make bad examples, for example with `data.corrupted`, and need only a score.
    Avoid when: the score should be a probability; train a classifier.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards import transfer
        >>> good, bad = jnp.array([3.0, 1.0, 0.0]), jnp.array([0.0, 0.5, 2.0])
        >>> print(transfer.margin_ranking_loss(good, bad))
        [0.  0.5 3. ]
    """
    good, bad = jnp.asarray(good), jnp.asarray(bad)
    check_float_dtype("the dtype of good", good.dtype)
    if (good.shape, good.dtype) != (bad.shape, bad.dtype):
        expected = f"have the dtype and shape of good, {good.dtype}{list(good.shape)}"
        got = f"{bad.dtype}{list(bad.shape)}"
        raise HyperparameterError("bad", expected, got)
    return jax.nn.relu(jnp.asarray(margin, good.dtype) - good + bad)
