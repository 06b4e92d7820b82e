"""Learning rates that decrease from layer to layer."""

from collections.abc import Sequence
from typing import Annotated

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import listed, path_names
from jaxopt_cards.core.precision import is_inexact
from jaxopt_cards.selection import compiled


@declare(elementwise=True, is_wrapper=True)
def layerwise_decay(
    inner: optax.GradientTransformation,
    decay: Annotated[ArrayLike, "(0, 1]"],
    order: Sequence[str],
) -> optax.GradientTransformationExtraArgs:
    r"""Gives lower layers smaller steps: discriminative learning rates for fine-tuning.

    The updates of the top layer do not change; those of each layer below are multiplied by `decay`
    once more. Lower layers compute what different tasks have in common and should move least.

    Equation:
        .. math:: u^{(l)} \leftarrow \xi^{\,L - l}\, u^{(l)}

        with :math:`u^{(l)}` the update of layer :math:`l`, from 1 at the bottom, :math:`L` the
        number of layers in `order`, :math:`\xi` = `decay`.

    Args:
        inner: the optimizer whose updates are scaled.
        decay: ratio of a layer's learning rate to that of the layer above it. The paper's 1 / 2.6.
        order: regular expressions over paths, from the bottom to the top, such as `["hidden1",
            "hidden2", "logits"]`. Each parameter must match exactly one.

    State:
        That of `inner`.

    Raises:
        ValueError: `inner` is no transformation, `decay` outside its range, an empty `order`; (at
            `init`) a parameter that matches none of the patterns, or several.

    References:
        Jeremy Howard, Sebastian Ruder (2018), Universal Language Model Fine-tuning for Text
        Classification. Géron (2017), chapter 11, "Tweaking, Dropping, or Replacing the Upper
        Layers".

    Use when: you train all layers of a pretrained network on a small data set.
    Avoid when: lower layers need not move at all: `transfer.freeze` also saves their computation.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> params = {"hidden1": jnp.ones(1), "logits": jnp.ones(1)}
        >>> tx = jc.layerwise_decay(jc.sgd(1.0), 0.5, ["hidden1", "logits"])
        >>> updates, _ = tx.update(params, tx.init(params), params)
        >>> print(updates["hidden1"], updates["logits"])
        [-0.5] [-1.]
    """
    if isinstance(order, str) or not order:
        raise HyperparameterError("order", "be a list of patterns", order)
    patterns = [compiled(pattern) for pattern in order]
    inner = optax.with_extra_args_support(inner)

    def depths(tree):
        """How far below the top each leaf lies."""
        names = path_names(tree)
        found = [[i for i, layer in enumerate(patterns) if layer.search(name)] for name in names]
        if wrong := [name for name, layers in zip(names, found, strict=True) if len(layers) != 1]:
            raise NamedError(
                f"each parameter must match one pattern of {list(order)}, but "
                f"none or several match:{listed(wrong)}",
            )
        return [len(order) - 1 - layers[0] for layers in found]

    def init(params):
        depths(params)
        return inner.init(params)

    def update(updates, state, params=None, **extra_args):
        updates, state = inner.update(updates, state, params, **extra_args)
        scaled = [
            leaf * jnp.asarray(decay, leaf.real.dtype) ** depth if is_inexact(leaf) else leaf
            for leaf, depth in zip(jax.tree.leaves(updates), depths(updates), strict=True)
        ]
        return jax.tree.unflatten(jax.tree.structure(updates), scaled), state

    return optax.GradientTransformationExtraArgs(init, update)
