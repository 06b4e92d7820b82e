"""Which parameters: their paths, regular expressions over the paths, and partitions."""

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
    """The pattern, compiled; an error names the public function that it was given to."""
    try:
        return re.compile(pattern)
    except (re.error, TypeError) as error:
        raise NamedError(f"{pattern!r} is not a regular expression: {error}") from None


def marked(params: PyTree, pattern: str) -> PyTree:
    """`select`, for the public function that the pattern was given to."""
    search = compiled(pattern).search
    chosen = [any(map(search, names)) for _, names in shared(params)]
    mask = jax.tree.unflatten(jax.tree.structure(params), chosen)
    if not any(jax.tree.leaves(mask)) and not is_placeholder(params):
        holes = _hole_paths(params)
        if not (_may_hide_leaves(params, holes) or any(search(path_name(p)) for p in holes)):
            paths = listed([*path_names(params), *map(path_name, holes)])
            raise NamedError(f"the pattern {pattern!r} matches none of the paths{paths}")
    return mask


def _hole_paths(params: PyTree) -> list[KeyPath]:
    """Where `optax.masked` or `optax.partition` took leaves out: they belong to another group."""
    is_hole = lambda node: isinstance(node, optax.MaskedNode)  # noqa: E731
    found = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_hole)
    return [path for path, leaf in found if is_hole(leaf)]


def _may_hide_leaves(params: PyTree, holes: list[KeyPath]) -> bool:
    """Whether a hole may stand for a subtree, whose paths nobody knows here.

    Masks and labels may be given for whole subtrees. The holes then lie higher than leaves do.
    """
    leaves = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    deepest = max((len(without_value(path)) for path in leaves), default=0)
    return any(len(without_value(path)) < deepest or not leaves for path in holes)


def where(
    tx: optax.GradientTransformation, mask: Any, argument: str = "mask"
) -> optax.GradientTransformation:
    """The transformation on some parameters, the identity on the others.

    The mask is a regular expression over paths, or what `optax.masked` takes; `None` is all.
    """
    if mask is None:
        return tx
    if isinstance(mask, str):
        compiled(mask)
        return optax.masked(tx, lambda params: marked(params, mask))
    # A tree may be callable too, as a module of Equinox is, and a function a tree: JAX's `Partial`.
    is_function = jax.tree_util.all_leaves([mask]) or isinstance(mask, functools.partial)
    if callable(mask) and is_function:
        return optax.masked(tx, lambda params: of_bools(argument, mask(params)))
    bools = of_bools(argument, mask)
    return optax.masked(tx, lambda _: bools)


def of_bools(argument: str, mask: PyTree) -> PyTree:
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
def select(params: PyTree, pattern: str) -> PyTree:
    r"""Marks the parameters whose path matches a regular expression.

    The path of a leaf is its keys joined by slashes, `hidden1/kernel`: the same for Flax NNX, Linen
    and bare dictionaries. The pattern is searched for anywhere in it (`re.search`); anchor it with
    `^` and `$` to match from the start or to the end.

    A parameter that an NNX module has in several places is marked in all of them if one of its
    paths matches. `nnx.state` and `nnx.split` keep such a parameter once, under its first path.

    Equation:
        .. math:: \mathrm{mask}_p = [\,\text{pattern occurs in the path } p\,]

    Args:
        params: any tree of parameters.
        pattern: regular expression, such as `"hidden[123]"` or `"kernel$"`.

    Returns:
        A tree of the same structure with a Python `bool` for each leaf, as `optax.masked` takes it.

    State:
        None.

    Raises:
        ValueError: the pattern matches no path (the message lists them), or is no valid regular
            expression.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Reusing a TensorFlow Model": layers chosen by `hidden[123]`.

    Use when: a technique is for some parameters only: decay on kernels, frozen layers, own rates.
    Avoid when: the choice depends on values or shapes; write a function of the leaf instead.

    Example:
        >>> import jaxopt_cards as jc
        >>> params = {"hidden1": {"kernel": 1.0, "bias": 2.0}, "logits": {"kernel": 3.0}}
        >>> jc.select(params, "hidden.*kernel")
        {'hidden1': {'bias': False, 'kernel': True}, 'logits': {'kernel': False}}
    """
    return marked(params, pattern)


@declare
def partition_params(params: PyTree, pattern: str) -> tuple[PyTree, PyTree]:
    r"""Splits a tree in two by a regular expression over paths.

    Both parts have the whole structure, with `None` where the leaf went to the other part. JAX sees
    no leaf in `None`: a gradient taken with respect to one part costs nothing for the other.

    Equation:
        .. math:: \theta = \theta_{\text{selected}} \cup \theta_{\text{rest}}

    Args:
        params: any tree of parameters.
        pattern: regular expression over paths, as in `select`.

    Returns:
        `(selected, rest)`; `merge_params` puts them together again.

    State:
        None.

    Raises:
        ValueError: the pattern matches no path; an NNX module has a parameter in two places.

    References:
        Patrick Kidger, Cristian Garcia (2021), Equinox: neural networks in JAX via callable PyTrees
        and filtered transformations.

    Use when: some parameters are frozen and their gradient should not even be computed.
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
    mask = marked(params, pattern)
    if twice := next((names for _, names in shared(params) if len(names) > 1), None):
        raise NamedError(
            f"{twice[0]} and {twice[1]} are one parameter, which two trees cannot share: give "
            "nnx.state(model), or the state of nnx.split(model)",
        )
    selected = jax.tree.map(lambda leaf, chosen: leaf if chosen else None, params, mask)
    rest = jax.tree.map(lambda leaf, chosen: None if chosen else leaf, params, mask)
    return selected, rest


@declare
def merge_params(selected: PyTree, rest: PyTree) -> PyTree:
    r"""Puts the two parts of `partition_params` together again.

    Works on the parts as they are: traced, updated, or replaced leaf by leaf.

    Equation:
        .. math:: \theta = \theta_{\text{selected}} \cup \theta_{\text{rest}}

    Args:
        selected: a tree with `None` where the leaf is in `rest`.
        rest: a tree with `None` where the leaf is in `selected`.

    Returns:
        The whole tree.

    State:
        None.

    Raises:
        ValueError: both parts have a leaf at the same path, or their structures differ.

    References:
        Patrick Kidger, Cristian Garcia (2021), Equinox: neural networks in JAX via callable PyTrees
        and filtered transformations.

    Use when: inside a loss function, to call the model on trained and frozen parameters together.
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
