"""Weight decay towards pretrained weights instead of zero."""

from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jaxopt_cards.core.abstract import is_placeholder
from jaxopt_cards.core.checks import check_params
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.leaf_errors import LeafMismatch
from jaxopt_cards.core.paths import listed, named, path_name
from jaxopt_cards.core.precision import dtype_of, in_precision, is_inexact, unmoved, wider
from jaxopt_cards.core.trees import is_hole


class L2SPState(NamedTuple):
    """State of `add_l2_sp`."""

    pretrained: Any  # dictionary by path: the pretrained weights


@declare(needs_params=True, elementwise=True)
def add_l2_sp(
    pretrained: Any,
    alpha: Annotated[ArrayLike, "[0, inf)"] = 0.1,
    beta: Annotated[ArrayLike, "[0, inf)"] = 0.01,
) -> optax.GradientTransformation:
    r"""Adds a pull towards pretrained weights to the updates: ℓ2-SP.

    Fine-tuning with ordinary weight decay slowly forgets the pretrained weights; here the decay
    acts on the change since. Parameters that `pretrained` does not have, such as those of a new
    head, decay towards zero. Place it like `add_decayed_weights`: as the first stage of a chain it
    is the gradient of the paper's penalty; before the learning rate it is decoupled.

    Equation:
        .. math:: u \leftarrow u + \alpha\, (\theta - \theta^0) \;\text{ where pretrained,} \qquad
            u \leftarrow u + \beta\, \theta \;\text{ elsewhere}

        with :math:`u` the update, :math:`\theta` the parameters, :math:`\theta^0` = `pretrained`,
        :math:`\alpha` = `alpha`, :math:`\beta` = `beta`.

    Args:
        pretrained: tree of the weights that training starts from, or a part of it: an NNX state, a
            dictionary. Leaves are matched by path.
        alpha: strength of the pull towards the pretrained weights.
        beta: strength of the decay of the other parameters.

    State:
        `L2SPState`: `pretrained`, one array for each pretrained parameter.

    Raises:
        ValueError: an argument outside its range; (at `init`) no parameter is in `pretrained`, or
            one has another shape there; (when updating) no parameters.

    References:
        Xuhong Li, Yves Grandvalet, Franck Davoine (2018), Explicit Inductive Bias for Transfer
        Learning with Convolutional Networks.

    Use when: you fine-tune, on few examples, a network whose features should be kept.
    Avoid when: the new task is unlike the old one.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> params = {"hidden1": jnp.array([1.5]), "logits": jnp.array([2.0])}
        >>> tx = jc.add_l2_sp({"hidden1": jnp.array([1.0])}, alpha=0.1, beta=0.01)
        >>> zeros = {"hidden1": jnp.zeros(1), "logits": jnp.zeros(1)}
        >>> updates, _ = tx.update(zeros, tx.init(params), params)
        >>> print(updates["hidden1"], updates["logits"])
        [0.05] [0.02]
    """
    known = dict(named(pretrained))

    def init(params):
        if is_placeholder(params):
            return L2SPState(jnp.zeros(()))
        leaves = {path: leaf for path, leaf in named(params) if is_inexact(leaf)}
        found = {path: leaf for path, leaf in leaves.items() if path in known}
        # With leaves masked out, as by `partition`, the others may all be new.
        whole = not any(map(is_hole, jax.tree.leaves(params, is_leaf=is_hole)))
        if not found and leaves and whole:
            raise NamedError(
                f"pretrained has none of the parameters{listed(leaves)}\nbut{listed(known)}",
            )
        for path, leaf in found.items():
            if np.shape(known[path]) != np.shape(leaf):
                raise NamedError(
                    f"pretrained must have the shapes of the parameters, got "
                    f"{np.shape(known[path])} for {path} of shape {np.shape(leaf)}; leave it out "
                    "if it is new",
                )
        # In a buffer of its own, with the sharding of the parameter.
        return L2SPState(
            {
                path: jnp.zeros_like(leaf) + jnp.asarray(known[path], dtype_of(leaf))
                for path, leaf in found.items()
            }
        )

    def update(updates, state, params=None):
        check_params(params)

        def one(path, grad, param):
            if is_hole(grad):
                return grad
            if not is_inexact(param):
                return _unmoved(path, grad, param)
            start = state.pretrained.get(path_name(path))
            param, wide, dtype = in_precision(32, param), in_precision(32, grad), wider(grad, param)
            pull = beta * param if start is None else alpha * (param - start.astype(param.dtype))
            return (wide + pull.astype(wide.dtype)).astype(dtype)

        return jax.tree_util.tree_map_with_path(one, updates, params, is_leaf=is_hole), state

    return optax.GradientTransformation(init, update)


def _unmoved(path: Any, grad: Any, param: Any) -> Any:
    """The update of a counter or key; an error names its path."""
    try:
        return unmoved(grad, param)
    except LeafMismatch as mismatch:
        raise mismatch.at(path) from None
