"""Frozen parameters, which have no gradient."""

from typing import Any

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.training.frozen import Frozen, hashable


@declare
def freeze(mask: Any, *, batch_stats: bool = True) -> Any:
    r"""Freezes the parameters that a mask selects, such as a regular expression over paths.

    Returns an NNX filter of the *other* parameters, which are trained. Pass it to `training.fit` as
    `trainable`, to `nnx.grad` in `nnx.DiffState(0, …)`, and to `nnx.Optimizer` as `wrt`. Frozen
    parameters then have no gradient, no optimizer state and no update, and weight decay does not
    change them. In your own loop, `nnx.state(model, freeze(...))` shows the trained parameters, and
    you must put frozen batch normalisation into eval mode. (`optax.freeze` differs: it is a stage
    of a chain that sets updates to zero.)

    `fit` and `fine_tune` freeze a shared parameter if one of its paths matches. NNX itself gives a
    filter only the first path in alphabetical order; in your own loop, the mask must select that
    path.

    Equation:
        .. math:: \nabla_{\theta_{\text{trained}}} L(\theta_{\text{trained}},
            \theta_{\text{frozen}})

    Args:
        mask: a regular expression, searched for in paths such as `hidden1/kernel`
            (`"hidden[12]"` freezes two layers); a tree of bools; or a function from the parameters,
            as nested dictionaries, to such a tree. `fit` resolves trees and functions; in your own
            loop, use `freeze(mask).of(model)`.
        batch_stats: whether batch normalisation with frozen parameters is frozen, too: in `fit`, it
            then uses its running statistics and does not update them, as in Keras. If False, its
            statistics follow the data, although its scale and bias are frozen.

    Returns:
        An NNX filter.

    Raises:
        ValueError: the mask is invalid; or, in `fit`, it selects no parameter or all of them.

    References:
        Jason Yosinski et al. (2014), How transferable are features in deep neural networks? Géron
        (2017), chapter 11, "Freezing the Lower Layers".

    Use when: there are few labels, and the lower layers were trained on many.
    Avoid when: there are enough labels to train all layers; freezing then costs accuracy.

    Example:
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, transfer
        >>> model = layers.MLP(4, 3, units=(2, 2), rngs=nnx.Rngs(0))
        >>> list(nnx.state(model, transfer.freeze("hidden")))
        ['logits']
    """
    return Frozen((hashable(mask),), batch_stats)
