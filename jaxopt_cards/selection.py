"""Which parameters: masks, by regular expressions over paths or as trees, and partitions."""

import functools
import re
from typing import Any

import jax
import numpy as np
import optax
from jax.tree_util import KeyPath

from jaxopt_cards.core.abstract import is_placeholder
from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.paths import listed, path_name, path_names, shared, without_value

PyTree = Any


def compiled(pattern: str) -> re.Pattern[str]:
    """The compiled pattern; raises if it is not a regular expression."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise NamedError(f"{pattern!r} is not a regular expression: {error}") from None


def as_mask(mask: Any, argument: str = "mask") -> Any:
    """The mask, checked as far as that goes without parameters; a tree has Python's bools."""
    if isinstance(mask, str):
        compiled(mask)
    if mask is None or isinstance(mask, str) or _is_function(mask):
        return mask
    return _of_bools(mask, argument)


def mask_of(params: PyTree, mask: Any, argument: str = "mask") -> PyTree:
    """A bool for each parameter: which ones a mask selects.

    A mask is a regular expression over paths, a tree of bools (one may stand for a subtree), or a
    function from the parameters to such a tree; `None` selects all. A parameter that an NNX module
    has in several places is selected in all of them if it is in one.
    """
    mask = as_mask(mask, argument)
    if isinstance(mask, str):
        chosen = _matching(params, mask)
    else:
        tree = _of_bools(mask(params), argument) if _is_function(mask) else mask
        chosen = _leaf_by_leaf(True if tree is None else tree, params, argument)
    places = [number for number, _ in shared(params)]
    once = {number for number, is_chosen in zip(places, chosen, strict=True) if is_chosen}
    return jax.tree.unflatten(jax.tree.structure(params), [number in once for number in places])


def _is_function(mask: Any) -> bool:
    """Whether it is called: a tree may be callable too, as a module of Equinox is."""
    # And a function may be a tree, as JAX's `Partial` is.
    is_function = jax.tree_util.all_leaves([mask]) or isinstance(mask, functools.partial)
    return callable(mask) and is_function


def _leaf_by_leaf(tree: PyTree, params: PyTree, argument: str) -> list[bool]:
    """The bools of a tree, each for all leaves that it stands for."""
    try:
        return jax.tree.leaves(jax.tree.broadcast(tree, params))
    except ValueError as error:
        raise NamedError(f"{argument} must have the structure of the parameters: {error}") from None


def _matching(params: PyTree, pattern: str) -> list[bool]:
    """Which leaves have a path that matches; raises if none has, and none elsewhere may have."""
    search = compiled(pattern).search
    chosen = [any(map(search, names)) for _, names in shared(params)]
    if not any(chosen) and not is_placeholder(params):
        holes = _hole_paths(params)
        if not (_may_hide_leaves(params, holes) or any(search(path_name(p)) for p in holes)):
            paths = listed([*path_names(params), *map(path_name, holes)])
            raise NamedError(f"the pattern {pattern!r} matches none of the paths{paths}")
    return chosen


def _hole_paths(params: PyTree) -> list[KeyPath]:
    """The paths of leaves that `optax.masked` or `optax.partition` has taken out."""

    def is_hole(node):
        return isinstance(node, optax.MaskedNode)

    found = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_hole)
    return [path for path, leaf in found if is_hole(leaf)]


def _may_hide_leaves(params: PyTree, holes: list[KeyPath]) -> bool:
    """Whether a hole may stand for a subtree, whose paths are not known here.

    Masks and labels may be given for whole subtrees. The holes are then less deep than the leaves.
    """
    leaves = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    deepest = max((len(without_value(path)) for path in leaves), default=0)
    return any(len(without_value(path)) < deepest or not leaves for path in holes)


def where(
    tx: optax.GradientTransformation, mask: Any, argument: str = "mask"
) -> optax.GradientTransformation:
    """The transformation on the parameters that a mask selects, the identity on the others."""
    if mask is None:
        return tx
    mask = as_mask(mask, argument)
    return optax.masked(tx, lambda params: mask_of(params, mask, argument))


def _of_bools(mask: PyTree, argument: str) -> PyTree:
    """The mask with Python's bools; `optax.masked` would take any number or text for true."""

    def as_bool(leaf: Any) -> bool:
        known = isinstance(leaf, bool | int | float | np.generic | np.ndarray | jax.Array)
        known = known and not isinstance(leaf, jax.core.Tracer) and np.ndim(leaf) == 0
        if not (known and np.asarray(leaf) in (0, 1)):
            expected = "be a regular expression, a tree of bools, or a function of one to the other"
            raise HyperparameterError(argument, expected, leaf)
        return bool(leaf)

    return jax.tree.map(as_bool, mask)


@declare
def select(params: PyTree, mask: Any) -> PyTree:
    r"""Marks the parameters whose path matches a regular expression, or that a mask selects.

    The path of a leaf is its keys joined by slashes, such as `hidden1/kernel`; it is the same for
    Flax NNX, Linen and plain dictionaries. The pattern may match anywhere in the path
    (`re.search`); use `^` and `$` to match at its start and end.

    A parameter that an NNX module has in several places is marked in all of them if one of its
    paths matches. `nnx.state` and `nnx.split` keep such a parameter once, under its first path.

    Args:
        params: any tree of parameters.
        mask: regular expression over paths, such as `"hidden[123]"` or `"kernel$"`; or a tree of
            bools, in which one may stand for a subtree; or a function from the parameters to such a
            tree. `None` is all.

    Returns:
        A tree of the same structure with a Python `bool` for each leaf, as `optax.masked` takes it.

    Raises:
        ValueError: the pattern matches no path (the message lists the paths), or is not a valid
            regular expression; a tree of another structure, or of other things than bools.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Reusing a TensorFlow Model": layers chosen by `hidden[123]`.

    Use when: a technique applies to some parameters only: decay on kernels, frozen layers, rates by
        layer.
    Avoid when: the choice depends on values or shapes; write a function of the leaf instead.

    Example:
        >>> import jaxopt_cards as jc
        >>> params = {"hidden1": {"kernel": 1.0, "bias": 2.0}, "logits": {"kernel": 3.0}}
        >>> jc.select(params, "hidden.*kernel")
        {'hidden1': {'bias': False, 'kernel': True}, 'logits': {'kernel': False}}
    """
    return mask_of(params, mask)


@declare
def partition_params(params: PyTree, mask: Any) -> tuple[PyTree, PyTree]:
    r"""Splits a tree in two by a regular expression over paths, or another mask.

    Both parts have the whole structure, with `None` for the leaves of the other part. `None` is no
    leaf for JAX: a gradient with respect to one part costs nothing for the other.

    Args:
        params: any tree of parameters.
        mask: which parameters the first part has, as in `select`.

    Returns:
        `(selected, rest)`; `merge_params` puts them together again.

    Raises:
        ValueError: a mask that does not fit, as in `select`; an NNX module has a parameter in two
            places.

    References:
        Patrick Kidger, Cristian Garcia (2021), Equinox: neural networks in JAX via callable PyTrees
        and filtered transformations.

    Use when: some parameters are frozen and their gradient should not be computed at all.
    Avoid when: all are trained and only the rule differs; use `masked` or `partition`.

    Example:
        >>> import jax, jaxopt_cards as jc
        >>> params = {"hidden1": 2.0, "logits": 3.0}
        >>> trained, frozen = jc.partition_params(params, "logits")
        >>> trained, frozen
        ({'hidden1': None, 'logits': 3.0}, {'hidden1': 2.0, 'logits': None})
        >>> loss = lambda trained: (lambda p: p["hidden1"] * p["logits"] ** 2)(
        ...     jc.merge_params(trained, frozen)
        ... )
        >>> print(jax.grad(loss)(trained))
        {'hidden1': None, 'logits': Array(12., dtype=float32, weak_type=True)}
    """
    chosen = mask_of(params, mask)
    if twice := next((names for _, names in shared(params) if len(names) > 1), None):
        raise NamedError(
            f"{twice[0]} and {twice[1]} are one parameter, which two trees cannot share: give "
            "nnx.state(model), or the state of nnx.split(model)",
        )
    selected = jax.tree.map(lambda leaf, is_in: leaf if is_in else None, params, chosen)
    rest = jax.tree.map(lambda leaf, is_in: None if is_in else leaf, params, chosen)
    return selected, rest


@declare
def merge_params(selected: PyTree, rest: PyTree) -> PyTree:
    r"""Puts the two parts of `partition_params` together again.

    The parts may be traced, updated, or replaced leaf by leaf.

    Args:
        selected: a tree with `None` where the leaf is in `rest`.
        rest: a tree with `None` where the leaf is in `selected`.

    Returns:
        The whole tree.

    Raises:
        ValueError: both parts have a leaf at the same path, or their structures differ.

    References:
        Patrick Kidger, Cristian Garcia (2021), Equinox: neural networks in JAX via callable PyTrees
        and filtered transformations.

    Use when: a loss function calls the model on trained and frozen parameters together.
    Avoid when: the parts come from different models; `transfer.restore` checks shapes and names.

    Example:
        >>> import jaxopt_cards as jc
        >>> jc.merge_params({"a": 1, "b": None}, {"a": None, "b": 2})
        {'a': 1, 'b': 2}
    """

    def one_of(path: KeyPath, first: Any, second: Any) -> Any:
        if first is not None and second is not None:
            raise NamedError(f"both parts have a leaf at {path_name(path)}")
        return second if first is None else first

    structures: list[Any] = [
        jax.tree.structure(part, is_leaf=lambda leaf: leaf is None) for part in (selected, rest)
    ]
    if structures[0] != structures[1]:
        raise NamedError(f"the parts differ in structure:{listed(map(str, structures))}")
    return jax.tree_util.tree_map_with_path(
        one_of, selected, rest, is_leaf=lambda leaf: leaf is None
    )
