"""The stages of a chain of transformations, read from the transformations themselves."""

from collections.abc import Iterator
from typing import Any

import jax
import optax

from jaxopt_cards.cards.closures import Stage, read
from jaxopt_cards.cards.description import DescribedStage, Description
from jaxopt_cards.core.checks import is_transformation
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import path_names
from jaxopt_cards.core.trees import is_hole

PyTree = Any
_MASKS = ("mask", "param_labels", "mask_compatible_extra_args")


@declare
def describe(tx: Any, params: PyTree | None = None) -> Description:
    r"""Describes a transformation: its stages, hyperparameters, state and leaves.

    Works for any chain, ours or Optax's, with masks, partitions, injected hyperparameters and
    wrappers. Transformations of this package keep the call that made them. Optax's are read from
    their closures; an argument that is not there is shown as `?`. A chain is shown as its stages:
    `adam(0.1)` as `scale_by_adam` and `scale_by_learning_rate`.

    Equation:
        .. math:: u = (f_n \circ \dots \circ f_1)(g)

    Args:
        tx: an `optax.GradientTransformation`, or an object with `init` and `update`.
        params: a tree of parameters, or of their `jax.ShapeDtypeStruct`. If given, the size of the
            state is computed with `jax.eval_shape`, and masks are shown leaf by leaf.

    Returns:
        A `Description`: `stages`, a list of named tuples (`depth`, `label`, `name`,
        `hyperparameters`, `state_bytes`, `leaves`, `not_found`); `state_bytes`, of all stages;
        `rows()` for JSON. It prints as a table. The bytes of a wrapper do not include the stages
        inside it; they are negative if it saves memory.

    Raises:
        ValueError: `tx` has no `init` and `update`; or as `tx.init(params)` raises.

    References:
        Matteo Hessel et al. (2020), Optax: composable gradient transformation and optimisation, in
        JAX.

    Use when: you want to see what a chain does, what is masked, and the memory of its state.
    Avoid when: you want to know what a technique does; see its card.

    Example:
        >>> import jax.numpy as jnp, jaxopt_cards as jc
        >>> from jaxopt_cards import cards
        >>> tx = jc.chain(jc.clip_by_global_norm(1.0), jc.adam(1e-3))
        >>> print(cards.describe(tx, {"w": jnp.zeros((10, 100))}))
        stage                   hyperparameters                            state  leaves
        clip_by_global_norm     max_norm=1                                   0 B       1
        scale_by_adam           b1=0.9, b2=0.999, eps=1e-08,             8,004 B       1
                                eps_root=0, mu_dtype=None,
                                nesterov=False
        scale_by_learning_rate  learning_rate=0.001, flip_sign=True          0 B       1
        in all                                                           8,004 B       1
    """
    if not is_transformation(tx):
        raise NamedError(f"tx must have init and update, got {type(tx).__name__}")
    if params is not None:
        jax.eval_shape(tx.init, params)  # raises if they do not fit
    return Description(list(_stages(tx, params, 0, "")), _paths(params))


def _stages(tx: Any, params: PyTree, depth: int, label: str) -> Iterator[DescribedStage]:
    """The stage and those inside it; for a chain, only those inside it."""
    stage = read(tx)
    parts = list(_parts(stage, params))
    if stage.name in ("chain", "named_chain") and parts:
        for inner_label, child, seen in parts:
            yield from _stages(child, seen, depth, inner_label or label)
        return
    inner = [_state_bytes(child, seen) for _, child, seen in parts]
    total = _state_bytes(tx, params)
    own_bytes = None if total is None else total - sum(filter(None, inner))
    # Masks are shown as leaves.
    given = {k: v for k, v in stage.hyperparameters.items() if k not in _MASKS or v is None}
    leaves = _paths(_seen_through_mask(stage, params)) if stage.name == "masked" else _paths(params)
    yield DescribedStage(depth, label, stage.name, given, own_bytes, leaves, stage.not_found)
    for (inner_label, child, seen), size in zip(parts, inner, strict=True):
        yield from _stages(child, None if size is None else seen, depth + 1, inner_label)


def _parts(stage: Stage, params: PyTree) -> Iterator[tuple[str, Any, PyTree]]:
    """The transformations inside a stage, with their labels and the parameters they act on."""
    for label, child in stage.children:
        if params is None:
            yield label, child, None
        elif stage.name == "masked":
            yield label, child, _seen_through_mask(stage, params)
        elif stage.name == "partition":
            yield label, child, _labelled_so(stage, params, label)
        else:
            yield label, child, params


def _seen_through_mask(stage: Stage, params: PyTree) -> PyTree:
    if params is None:
        return None
    mask = stage.variables["mask"]
    return _holes(mask(params) if callable(mask) else mask, params)


def _labelled_so(stage: Stage, params: PyTree, label: str) -> PyTree:
    labels = stage.variables["param_labels"]
    labels = labels(params) if callable(labels) else labels
    return _holes(jax.tree.map(lambda found: str(found) == label, labels), params)


def _holes(mask: PyTree, params: PyTree) -> PyTree:
    return jax.tree.map(lambda keep, part: part if keep else optax.MaskedNode(), mask, params)


def _state_bytes(tx: Any, params: PyTree) -> int | None:
    if params is None:
        return None
    try:
        leaves = jax.tree.leaves(jax.eval_shape(tx.init, params))
    except Exception:  # unknown, if a wrapper passes it other parameters
        return None
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def _paths(params: PyTree) -> list[str] | None:
    if params is None:
        return None
    whole = jax.tree.map(lambda leaf: None if is_hole(leaf) else leaf, params, is_leaf=is_hole)
    return path_names(whole)
