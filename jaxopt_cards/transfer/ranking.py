"""Ranking: the good above the bad."""

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
    r"""Asks the score of the good example to be above that of the bad one by a margin.

    What matters is the order of two scores, not their values: no classes, no probabilities. Where
    the margin is kept, loss and gradient are zero.

    Equation:
        .. math:: \ell = \max(0, m - s_{\text{good}} + s_{\text{bad}})

        with :math:`m` = `margin`.

    Args:
        good: scores of good examples, floating point, any shape.
        bad: scores of the bad examples beside them, the same shape and dtype.
        margin: float in [0, inf); how much higher the good score should be. The paper's 1.

    Returns:
        An array of losses, one for each pair.

    Raises:
        ValueError: shapes or dtypes differ, or are not of floating point; a margin outside its
            range.

    References:
        Ronan Collobert, Jason Weston (2008), A Unified Architecture for Natural Language
        Processing. Chapter 11, "Pretraining on an Auxiliary Task".

    Use when: bad examples are easily made, as by `data.corrupted`, and a score is to be learnt.
    Avoid when: the score is to be a probability; train a classifier.

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
        expected = f"be scores {good.dtype}{list(good.shape)} as good is"
        got = f"{bad.dtype}{list(bad.shape)}"
        raise HyperparameterError("bad", expected, got)
    return jax.nn.relu(jnp.asarray(margin, good.dtype) - good + bad)
