"""Projections: parameters kept within a set after every step."""

from typing import Annotated, Any

import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.leafwise import leafwise
from jaxopt_cards.core.moments import abs_sq
from jaxopt_cards.selection import where


@declare(needs_params=True)
def max_norm(
    max_norm: Annotated[ArrayLike, "(0, inf]"],
    axis: int | tuple[int, ...] | None = None,
    mask: Any = None,
) -> optax.GradientTransformation:
    r"""Keeps the incoming weights of each unit within a ball: max-norm regularisation.

    After the step, weights outside the ball are scaled back onto it. Unlike a penalty, it does not
    change a unit that is inside, and it bounds a unit however large the learning rate is.

    This is what Géron's text says. The listing there clips along the other axis (`axes=1` of a
    kernel of shape (inputs, outputs): the weights that leave an input), and hidden layers only;
    here the kernel of the output layer is clipped as well. `max_norm(1.0, axis=1,
    mask="hidden.*kernel")` is the listing, `max_norm(1.0, mask="hidden.*kernel")` the text without
    the output layer.

    Equation:
        .. math:: w \leftarrow w \cdot \min\left(1, \frac{r}{\lVert w \rVert_2}\right), \qquad
            w = \theta_j + u_j \quad\text{for each unit } j

        with :math:`w` the weights of unit :math:`j` after the step, :math:`\theta_j` before it,
        :math:`u_j` the update so far, :math:`r` = `max_norm`.

    Args:
        max_norm: the radius. Géron's code uses 1.0; 3 to 4 are usual with dropout.
        axis: the axes of the weights of one unit. Default: all but the last, which is right for the
            kernels of Flax; arrays of fewer than two dimensions (biases) do not change.
        mask: which parameters, as in `select`: a regular expression over paths, such as
            `"hidden.*kernel"`, a tree of bools, or a function from the parameters to one. Default:
            all.

    Returns:
        An `optax.GradientTransformation` that needs the parameters; put it last.

    Raises:
        ValueError: `max_norm` outside its range; a mask that does not fit; (when updating) no
            parameters.

    References:
        Nitish Srivastava et al. (2014), Dropout: A Simple Way to Prevent Neural Networks from
        Overfitting. Géron (2017), chapter 11, "Max-Norm Regularization".

    Use when: you train with dropout and large learning rates.
    Avoid when: a later stage of the chain changes the updates; the weights would leave the ball.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.chain(jc.sgd(1.0), jc.max_norm(1.0))
        >>> params = jnp.array([[3.0, 0.1], [4.0, 0.2]])
        >>> updates, _ = tx.update(jnp.zeros((2, 2)), tx.init(params), params)
        >>> print(jc.apply_updates(params, updates).round(3))
        [[0.6 0.1]
         [0.8 0.2]]
    """

    def init(param):
        return ()

    def update(grad, state, param, step):
        if axis is None and param.ndim < 2:
            return grad, state
        after = param + grad
        axes = tuple(range(param.ndim - 1)) if axis is None else axis
        norm = jnp.sqrt(jnp.sum(abs_sq(after), axis=axes, keepdims=True))
        # Inside the ball the update stays bit-identical.
        outside = norm > max_norm
        return jnp.where(outside, after * (max_norm / norm) - param, grad), state

    tx = leafwise(init, update, optax.EmptyState, needs_params=True)
    return where(tx, mask)
