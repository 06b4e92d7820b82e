"""Clipping: bounds on the size of gradients."""

from typing import Annotated, Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.leafwise import leafwise
from jaxopt_cards.core.moments import abs_sq
from jaxopt_cards.core.paths import path_name
from jaxopt_cards.core.precision import in_precision


@declare(elementwise=True)
def clip(max_delta: Annotated[ArrayLike, "(0, inf]"]) -> optax.GradientTransformation:
    r"""Clips each element of the updates to an interval around zero.

    A single exploding element then cannot move its weight far. The direction of the gradient
    changes: large elements shrink, small ones stay.

    Equation:
        .. math:: u_i \leftarrow \min(\max(g_i, -\delta), \delta)

        with :math:`g_i` an element of the gradient, :math:`u_i` of the update, :math:`\delta` =
        `max_delta`.

    Args:
        max_delta: the largest absolute value of an element. Géron uses 1.0; infinity clips nothing.

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
    bound: Any = max_delta

    def init(param):
        return ()

    def update(grad, state, param, step):
        return jnp.clip(grad, -bound, bound), state

    return leafwise(init, update, optax.EmptyState)


@declare
def clip_by_global_norm(
    max_norm: Annotated[ArrayLike, "(0, inf]"],
) -> optax.GradientTransformation:
    r"""Scales the whole tree of updates down so that its norm stays within a bound.

    The norm is taken over all elements of all leaves together, so the direction stays the same.
    Updates in half precision are summed in float32; Optax sums in their own precision.

    Equation:
        .. math:: u \leftarrow g \cdot \min\left(1, \frac{c}{\lVert g \rVert_2}\right), \qquad
            \lVert g \rVert_2 = \sqrt{\textstyle\sum_i |g_i|^2}

        with :math:`g` the gradient of all parameters, :math:`u` the update, :math:`c` = `max_norm`.

    Args:
        max_norm: the largest norm of all updates together. Infinity clips nothing.

    References:
        Razvan Pascanu, Tomas Mikolov, Yoshua Bengio (2013), On the difficulty of training recurrent
        neural networks. Géron (2017), chapter 11, "Gradient Clipping".

    Use when: gradients explode now and then; as the first stage of a chain.
    Avoid when: part of the tree is frozen: its gradients count too. Freeze before `grad`.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.clip_by_global_norm(1.0)
        >>> updates, _ = tx.update({"a": jnp.array([3.0]), "b": jnp.array([4.0])}, tx.init({}))
        >>> print(updates["a"], updates["b"])
        [0.6] [0.8]
    """

    def update(updates, state, params=None):
        for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
                raise NamedError(
                    f"at {path_name(path)} the gradient must be of floating "
                    f"point, got {jnp.result_type(leaf)}",
                )
        wide = jax.tree.map(lambda grad: in_precision(32, jnp.asarray(grad)), updates)
        norm = optax.tree.norm(wide)
        # `<=`, so that an infinite bound also passes values that are not finite.
        factor = jnp.where(norm <= max_norm, 1.0, max_norm / norm)
        clipped = jax.tree.map(
            lambda grad, old: (grad * factor.astype(grad.dtype)).astype(jnp.result_type(old)),
            wide,
            updates,
        )
        return clipped, state

    return optax.GradientTransformation(optax.init_empty_state, update)


@declare
def clip_by_norm(
    max_norm: Annotated[ArrayLike, "(0, inf]"],
) -> optax.GradientTransformation:
    r"""Scales each array of the updates down so that its norm stays within a bound.

    An exploding layer is clipped without slowing the others. TensorFlow's function of the same
    name.

    Equation:
        .. math:: u \leftarrow g \cdot \min\left(1, \frac{c}{\lVert g \rVert_2}\right)
            \quad\text{for each leaf}

        with :math:`g` the gradient of a leaf, :math:`u` its update, :math:`c` = `max_norm`.

    Args:
        max_norm: the largest norm of one leaf. Infinity clips nothing.

    References:
        Razvan Pascanu, Tomas Mikolov, Yoshua Bengio (2013), On the difficulty of training recurrent
        neural networks. Géron (2017), chapter 11, "Gradient Clipping".

    Use when: the gradients of the layers differ in size, and one layer may explode alone.
    Avoid when: the direction of the whole gradient should stay; use `clip_by_global_norm`.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.clip_by_norm(1.0)
        >>> updates, _ = tx.update({"a": jnp.array([3.0, 4.0]), "b": jnp.array([0.5])}, tx.init({}))
        >>> print(updates["a"], updates["b"])
        [0.6 0.8] [0.5]
    """

    def init(param):
        return ()

    def update(grad, state, param, step):
        norm = jnp.sqrt(jnp.sum(abs_sq(grad)))
        return grad * jnp.where(norm <= max_norm, 1, max_norm / norm), state

    return leafwise(init, update, optax.EmptyState)


@declare
def clip_by_block_rms(
    threshold: Annotated[ArrayLike, "(0, inf]"],
) -> optax.GradientTransformation:
    r"""Scales each array of the updates down so that its root mean square stays within a bound.

    Like `clip_by_norm`, but the bound means the same for large and small arrays: the usual size of
    an element.

    Equation:
        .. math:: u \leftarrow \frac{g}{\max(1, \mathrm{rms}(g) / d)}, \qquad
            \mathrm{rms}(g) = \sqrt{\tfrac{1}{n} \textstyle\sum_i |g_i|^2}
            \quad\text{for each leaf}

        with :math:`g` the gradient of a leaf, :math:`n` its number of elements, :math:`u` its
        update, :math:`d` = `threshold`.

    Args:
        threshold: the largest root mean square of one leaf. Infinity clips nothing.

    References:
        Noam Shazeer, Mitchell Stern (2018), Adafactor: Adaptive Learning Rates with Sublinear
        Memory Cost.

    Use when: it follows an adaptive stage, whose updates have elements of size about 1 in normal
        training.
    Avoid when: the gradients are not scaled; their size differs from layer to layer.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx = jc.clip_by_block_rms(1.0)
        >>> updates, _ = tx.update(jnp.array([4.0, -4.0]), tx.init(jnp.zeros(2)))
        >>> print(updates)
        [ 1. -1.]
    """

    def init(param):
        return ()

    def update(grad, state, param, step):
        return grad / jnp.maximum(1, jnp.sqrt(jnp.mean(abs_sq(grad))) / threshold), state

    return leafwise(init, update, optax.EmptyState)


@declare(needs_params=True)
def adaptive_grad_clip(
    clipping: Annotated[ArrayLike, "(0, inf]"],
    eps: Annotated[ArrayLike, "(0, inf)"] = 1e-3,
    axis: int | tuple[int, ...] | None = None,
) -> optax.GradientTransformation:
    r"""Scales each unit's gradient down to a fraction of the norm of its weights.

    It bounds how far a step may move a unit relative to its weights. A unit is a column of a dense
    kernel, or a filter of a convolution.

    Equation:
        .. math:: u_j \leftarrow g_j \cdot \min\left(1,
            \lambda\, \frac{\max(\lVert \theta_j \rVert_2, \epsilon)}{\lVert g_j \rVert_2}\right)

        with :math:`g_j` the gradient of unit :math:`j`, :math:`\theta_j` its weights, :math:`u_j`
        its update, :math:`\lambda` = `clipping`, :math:`\epsilon` = `eps`.

    Args:
        clipping: the largest ratio of a gradient's norm to its weights'. The paper's 0.01; infinity
            clips nothing.
        eps: the smallest norm that counts, so that weights of zero can move.
        axis: the axes of a unit's weights. Default, as in Optax: all of a vector, the first of two
            or three, all but the last of four or five.

    Raises:
        ValueError: an argument outside its range; (when updating) no parameters, or more than five
            dimensions without `axis`.

    References:
        Andrew Brock, Soham De, Samuel Smith, Karen Simonyan (2021), High-Performance Large-Scale
        Image Recognition Without Normalization.

    Use when: a network without normalisation should train with large learning rates or batches.
    Avoid when: on the output layer; the paper leaves it out. Use `masked`.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> tx, params = jc.adaptive_grad_clip(0.1), jnp.array([3.0, 4.0])
        >>> updates, _ = tx.update(jnp.array([0.0, 2.0]), tx.init(params), params)
        >>> print(updates)
        [0.  0.5]
    """

    def init(param):
        if axis is None and param.ndim > 5:
            raise HyperparameterError(
                "axis",
                "be given for parameters of more than 5 dimensions",
                param.shape,
            )
        return ()

    def update(grad, state, param, step):
        axes = _axes_of_units(param.shape) if axis is None else axis
        norm, weight = (
            jnp.sqrt(jnp.sum(abs_sq(array), axis=axes, keepdims=True)) for array in (grad, param)
        )
        most = clipping * jnp.maximum(weight, eps)
        return grad * jnp.where(norm <= most, 1, most / jnp.maximum(norm, 1e-6)), state

    return leafwise(init, update, optax.EmptyState, needs_params=True)


def _axes_of_units(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of the weights of one unit, by the same rule as in Optax."""
    if sum(side > 1 for side in shape) <= 1:
        return tuple(range(len(shape)))
    return (0,) if len(shape) <= 3 else tuple(range(len(shape) - 1))
