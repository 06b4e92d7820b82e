"""Frozen parameters: left out before the gradient is taken."""

from typing import Any

from jaxopt_cards.core.declaration import declare
from jaxopt_cards.training.frozen import Frozen, hashable


@declare
def freeze(mask: Any, *, batch_stats: bool = True) -> Any:
    r"""Says which parameters stay as they are, by a regular expression over paths or another mask.

    Returns an NNX filter of the *other* parameters: those to train. Given to `training.fit` as
    `trainable`, to `nnx.grad` in `nnx.DiffState(0, …)` and to `nnx.Optimizer` as `wrt`, it keeps
    frozen parameters out of the gradient, of the optimizer's state and of the update. Weight decay
    cannot move them either. In a loop of your own,
    `nnx.state(model, freeze(...))` shows what is left to train, and frozen batch normalisation is
    put into eval mode by hand. (`optax.freeze` is another thing: a stage of a chain that zeroes
    updates.)

    A parameter that the model has in several places is frozen in `fit` and `fine_tune` if one of
    its paths matches. NNX itself gives a filter only the first path, in alphabetical order: in a
    loop of your own, the mask must select that one.

    Equation:
        .. math:: \nabla_{\theta_{\text{trained}}} L(\theta_{\text{trained}},
            \theta_{\text{frozen}})

    Args:
        mask: as in `select`: a regular expression over paths such as `hidden1/kernel`, of which
            `"hidden[12]"` freezes two layers; or a tree of bools, or a function from the
            parameters, as nested dictionaries, to one. `fit` asks the latter two, and in a loop of
            your own `freeze(mask).of(model)` does.
        batch_stats: whether batch normalisation whose parameters are all frozen is frozen, too: in
            `fit` it then normalises by its running statistics and keeps them, as in Keras. False:
            its statistics follow the data, though its scale and bias stay.

    Returns:
        An NNX filter.

    Raises:
        ValueError: the mask is none; (in `fit`) it selects no parameter, or
            leaves none to train.

    References:
        Jason Yosinski et al. (2014), How transferable are features in deep neural networks? Chapter
        11, "Freezing the Lower Layers".

    Use when: there are few labels and the lower layers were trained on many.
    Avoid when: there are labels enough to tune all layers; then it costs accuracy.

    Example:
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, transfer
        >>> model = layers.MLP(4, 3, units=(2, 2), rngs=nnx.Rngs(0))
        >>> list(nnx.state(model, transfer.freeze("hidden")))
        ['logits']
    """
    return Frozen((hashable(mask),), batch_stats)
