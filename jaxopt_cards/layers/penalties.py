"""Penalties on weights, as terms of the loss."""

from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import named_as
from jaxopt_cards.core.moments import abs_sq
from jaxopt_cards.core.paths import shared
from jaxopt_cards.core.precision import in_precision
from jaxopt_cards.selection import as_mask, mask_of

Penalty = Callable[[Any], jax.Array]


@declare
def l1(strength: Annotated[ArrayLike, "[0, inf)"], mask: Any = "kernel") -> Penalty:
    r"""Penalises the sum of absolute weights: a term for the loss.

    It moves all weights towards zero with the same force, so that small ones reach it; in training
    they then oscillate around zero by the size of a step. Its gradient is that of
    `add_l1_decay(strength, mask=mask)` as the first stage of a chain. Give one of them to
    `training.fit`: this one as its `regularizer`.

    Equation:
        .. math:: R(\theta) = \lambda \sum_{i \in \text{mask}} |\theta_i|

        with :math:`R` the penalty, :math:`\theta` the parameters, :math:`\lambda` = `strength`.

    Args:
        strength: factor of the sum. Géron's 0.001.
        mask: which parameters, as in `select`: a regular expression over paths, a tree of bools, or
            a function from the parameters to one. The default leaves out biases.

    Returns:
        A function from the parameters (an NNX model or its state, or a dictionary) to a number of
        shape (), at least float32.

    Raises:
        ValueError: `strength` outside its range; the mask is invalid; (when
            called) it matches no path, and the message lists the paths.

    References:
        Robert Tibshirani (1996), Regression Shrinkage and Selection via the Lasso. Géron (2017),
        chapter 11, "ℓ1 and ℓ2 Regularization".

    Use when: many weights should be near zero.
    Avoid when: you need exact zeros; use `proximal_l1` or FTRL.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxopt_cards.layers import l1
        >>> params = {"kernel": jnp.array([3.0, -1.0]), "bias": jnp.array([9.0])}
        >>> print(l1(0.5)(params), jax.grad(l1(0.5))(params)["kernel"])
        2.0 [ 0.5 -0.5]
    """
    return penalty("l1", mask, lambda weights: scaled(strength, magnitudes(weights)))


@declare
def l2(strength: Annotated[ArrayLike, "[0, inf)"], mask: Any = "kernel") -> Penalty:
    r"""Penalises the sum of squared weights: a term for the loss.

    Large weights are moved most; none becomes exactly zero. There is no factor of one half, as in
    Keras; TensorFlow 1's `l2_regularizer` and PyTorch's weight decay have it. The gradient is
    :math:`2 \lambda \theta`, that of `add_decayed_weights(2 * strength, mask)` as the first
    stage of a chain. Give one of them to `training.fit`: this one as its `regularizer`.

    Equation:
        .. math:: R(\theta) = \lambda \sum_{i \in \text{mask}} \theta_i^2

        with :math:`R` the penalty, :math:`\theta` the parameters, :math:`\lambda` = `strength`.

    Args:
        strength: factor of the sum; half of the usual weight decay.
        mask: as in `l1`.

    Returns:
        A function from the parameters (an NNX model or its state, or a dictionary) to a number of
        shape (), at least float32.

    Raises:
        ValueError: `strength` outside its range; the mask is invalid; (when
            called) it matches no path, and the message lists the paths.

    References:
        Anders Krogh, John Hertz (1992), A Simple Weight Decay Can Improve Generalization. Géron
        (2017), chapter 11, "ℓ1 and ℓ2 Regularization".

    Use when: the network overfits, and the optimizer is not adaptive.
    Avoid when: the optimizer is adaptive: it rescales the penalty; use `adamw`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from jaxopt_cards.layers import l2
        >>> params = {"kernel": jnp.array([3.0, -1.0]), "bias": jnp.array([9.0])}
        >>> print(l2(0.5)(params), jax.grad(l2(0.5))(params)["kernel"])
        5.0 [ 3. -1.]
    """
    return penalty("l2", mask, lambda weights: scaled(strength, abs_sq(weights)))


@declare
def elastic_net(
    l1: Annotated[ArrayLike, "[0, inf)"],
    l2: Annotated[ArrayLike, "[0, inf)"],
    mask: Any = "kernel",
) -> Penalty:
    r"""Penalises absolute and squared weights together: a term for the loss.

    The ℓ1 part selects weights. The ℓ2 part keeps correlated weights together; ℓ1 alone would pick
    one of them at random. There is no factor of one half, as in Keras: as the first stage of a
    chain, `add_elastic_net(l1, 2 * l2, mask=mask)` has the same gradient.

    Equation:
        .. math:: R(\theta) = \lambda_1 \sum_{i \in \text{mask}} |\theta_i| +
            \lambda_2 \sum_{i \in \text{mask}} \theta_i^2

        with :math:`R` the penalty, :math:`\theta` the parameters, :math:`\lambda_1` = `l1`,
        :math:`\lambda_2` = `l2`.

    Args:
        l1: factor of the sum of absolute values.
        l2: factor of the sum of squares.
        mask: as in `l1`.

    Returns:
        A function from the parameters (an NNX model or its state, or a dictionary) to a number of
        shape (), at least float32.

    Raises:
        ValueError: a strength outside its range; the mask is invalid; (when
            called) it matches no path, and the message lists the paths.

    References:
        Hui Zou, Trevor Hastie (2005), Regularization and Variable Selection via the Elastic Net.

    Use when: inputs are many and correlated, such as pixels.
    Avoid when: you need exact zeros; use `proximal_l1`, after `add_decayed_weights`.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxopt_cards.layers import elastic_net
        >>> print(elastic_net(0.5, 0.1)({"kernel": jnp.array([3.0, -1.0])}))
        3.0
    """
    return penalty("elastic_net", mask, lambda w: scaled(l1, magnitudes(w)) + scaled(l2, abs_sq(w)))


def penalty(name: str, mask: Any, of_array: Callable[[jax.Array], jax.Array]) -> Penalty:
    """The sum of a function over the arrays that a mask selects."""
    mask = as_mask(mask)

    @named_as(name)
    def total(params: Any) -> jax.Array:
        chosen = jax.tree.leaves(mask_of(params, mask))
        leaves = zip(shared(params), jax.tree.leaves(params), chosen, strict=True)
        # A parameter in several places of a module counts once.
        weights = {first: leaf for (first, _), leaf, is_chosen in leaves if is_chosen}
        # At least float32: with fewer bits, a large sum ignores further terms.
        wide = [in_precision(32, leaf) for leaf in weights.values()]
        return jnp.sum(jnp.stack([of_array(array) for array in wide]))

    return total


def scaled(strength: ArrayLike, terms: jax.Array) -> jax.Array:
    """The strength times the sum of the terms."""
    return jnp.asarray(strength, terms.dtype) * jnp.sum(terms)


def magnitudes(weights: jax.Array) -> jax.Array:
    """The absolute values, with a gradient of 0 at 0, where that of `jnp.abs` is 1."""
    return (weights * jax.lax.stop_gradient(jnp.sign(weights).conj())).real
