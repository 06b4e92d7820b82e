"""Gradual unfreezing: the parameters trained in each epoch, and their optimizer state."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from jaxopt_cards.core.checks import HyperparameterError, check_count
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import named, path_name
from jaxopt_cards.training.frozen import Frozen, hashable
from jaxopt_cards.training.inputs import array_kind


@dataclasses.dataclass(frozen=True)
class UnfreezeSchedule:
    """The result of `unfreeze_schedule`: a function from the epoch, from 0, to an NNX filter."""

    stages: tuple[tuple[int, Any], ...]  # first epoch, and a mask of the added parameters
    batch_stats: bool = True

    def __call__(self, epoch: int) -> Frozen:
        """The NNX filter of the parameters that are trained in this epoch."""
        masks = tuple(mask for start, mask in self.stages if start <= epoch)
        return Frozen(masks, self.batch_stats, all_but=True)


@declare
def unfreeze_schedule(stages: Mapping[int, Any], *, batch_stats: bool = True) -> UnfreezeSchedule:
    r"""Makes a schedule that unfreezes parameters by epoch, by masks.

    Each stage adds parameters to those of the stages before. `fine_tune` follows the schedule, and
    keeps the moments of the parameters that were trained before.

    Equation:
        .. math:: \Theta_e = \bigcup_{s \le e} \{\theta_p : r_s \text{ selects } p\}

        with :math:`r_s` the mask of the stage that starts in epoch :math:`s`.

    Args:
        stages: maps epochs, integers in ascending order from 0, to masks as in `freeze`:
            `{0: "logits", 5: "hidden[45]", 10: ""}`. The empty pattern matches all.
        batch_stats: whether the statistics of frozen batch normalisation are frozen, as in
            `freeze`.

    Returns:
        An `UnfreezeSchedule`: a function from epochs, from 0, to NNX filters like `freeze`'s.

    Raises:
        ValueError: the epochs do not start with 0 or are not in ascending order; a mask is invalid.

    References:
        Jeremy Howard, Sebastian Ruder (2018), Universal Language Model Fine-tuning for Text
        Classification, section 3.3, "Gradual unfreezing". Géron (2017), chapter 11, exercise 9.5.

    Use when: upper layers should adapt before lower ones are trained.
    Avoid when: first the head, then all layers is enough, which is the default of `fine_tune`.

    Example:
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, transfer
        >>> model = layers.MLP(4, 3, units=(2, 2), rngs=nnx.Rngs(0))
        >>> schedule = transfer.unfreeze_schedule({0: "logits", 5: "hidden2"})
        >>> [list(nnx.state(model, schedule(epoch))) for epoch in (4, 5)]
        [['logits'], ['hidden2', 'logits']]
    """
    starts = list(stages) if isinstance(stages, Mapping) else []
    for start in starts:
        check_count("each epoch of stages", start, least=0)
    if not starts or starts[0] != 0 or starts != sorted(set(starts)):
        raise HyperparameterError("stages", "map ascending epochs, from 0, to patterns", stages)
    masks = map(hashable, stages.values())
    return UnfreezeSchedule(tuple(zip(starts, masks, strict=True)), batch_stats)


@declare
def migrate_state(opt_state: Any, new_state: Any) -> Any:
    r"""Transfers an optimizer's moments to a run that trains other parameters.

    If both states have an array with the same path, shape and dtype, the new state takes the old
    one's; otherwise it keeps its own. Step counts are transferred as well. Adam then does not
    correct the bias of the zero moments of new parameters, so its first steps with them are three
    times too long. To avoid this, give new parameters their own state with `optax.partition`, as
    `fine_tune` does, or warm up the learning rate.

    Args:
        opt_state: the state to take from: `FitResult.opt_state`.
        new_state: the state to fill: `tx.init(params)` with the parameters to train now.

    Returns:
        A state like `new_state`.

    Raises:
        ValueError: the states have no array in common.

    References:
        Jeremy Howard, Sebastian Ruder (2018), Universal Language Model Fine-tuning for Text
        Classification.

    Use when: you unfreeze or freeze parameters in your own training loop.
    Avoid when: you use `fine_tune`, which does this.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> from jaxopt_cards import transfer
        >>> tx, head = jc.momentum(0.1, 0.9), {"logits": jnp.ones(1)}
        >>> _, state = tx.update(head, tx.init(head))
        >>> whole = head | {"hidden1": jnp.ones(1)}
        >>> print(transfer.migrate_state(state, tx.init(whole))[0].trace)
        {'hidden1': Array([0.], dtype=float32), 'logits': Array([1.], dtype=float32)}
    """
    old = dict(named(opt_state))
    taken = []

    def one(path: Any, leaf: Any) -> Any:
        name = path_name(path)
        if name not in old or array_kind(old[name]) != array_kind(leaf):
            return leaf
        taken.append(name)
        return old[name]

    filled = jax.tree_util.tree_map_with_path(one, new_state)
    if old and not taken:
        raise NamedError(
            f"the states must have arrays in common, got {list(old)} and "
            f"{[name for name, _ in named(new_state)]}",
        )
    return filled
