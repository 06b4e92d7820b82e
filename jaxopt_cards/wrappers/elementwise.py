"""Checks, from the program of a transformation, that it is element-wise."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxopt_cards.core.errors import NamedError

# The primitives whose result at an element depends on the same element of the operands.
# fmt: off
ELEMENTWISE = frozenset((
    "abs", "add", "and", "atan2", "cbrt", "ceil", "clamp", "complex", "conj",
    "convert_element_type", "copy", "cos", "div", "eq", "erf", "exp", "exp2", "expm1", "floor",
    "ge", "gt", "imag", "integer_pow", "is_finite", "le", "log", "log1p", "logistic", "lt",
    "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "pow", "real",
    "reduce_precision", "rem", "round", "rsqrt", "select_n", "sign", "sin", "sqrt", "square",
    "stop_gradient", "sub", "tan", "tanh", "xor",
))
# fmt: on


def check_elementwise(inner: optax.GradientTransformationExtraArgs, shapes: list) -> None:
    """Raises unless the program of `inner` is element-wise and the same for all shapes."""
    for shape, dtype in shapes:
        vector = jax.ShapeDtypeStruct((7919,), dtype)  # a length that no other array has
        if _operations(inner, vector) != _operations(inner, jax.ShapeDtypeStruct(shape, dtype)):
            raise NamedError(
                "inner treats arrays of the shape "
                f"{list(shape)} differently from vectors, so it cannot be packed",
            )


def _operations(inner: optax.GradientTransformationExtraArgs, leaf: Any) -> list[str]:
    """The operations of an update of one leaf, in order; raises if one is not element-wise."""
    tree = {"leaf": leaf}

    def update(*args):
        return inner.update(*args, value=jnp.zeros(()))

    try:
        state = jax.eval_shape(inner.init, tree)
        traced = jax.make_jaxpr(update)(tree, state, tree)
    except Exception as error:
        raise NamedError(
            "cannot know whether inner is element-wise: tracing it on one "
            f"array failed with {type(error).__name__}: {error}",
        ) from error
    masks = (optax.MaskedState, optax.MaskedNode, optax.transforms.PartitionState)
    nodes = jax.tree.leaves(state, is_leaf=lambda node: isinstance(node, masks))
    if any(isinstance(node, masks) for node in nodes):
        raise NamedError(
            "inner has a mask or a partition, which cannot tell packed leaves "
            "apart; use masked(pack_small_leaves(...), mask) instead",
        )
    shapes = {(), leaf.shape}
    if odd := [node.shape for node in nodes if node.shape not in shapes]:
        _refuse(f"its state has arrays of the shape {list(odd[0])} for a leaf of {leaf.shape}")
    if any(jnp.size(constant) > 1 for constant in traced.consts):
        _refuse("its program contains constant arrays")
    return list(_names(traced.jaxpr))


def _names(jaxpr: Any) -> Iterator[str]:
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        inner = [value for value in equation.params.values() if _is_jaxpr(value)]
        inner += [part for value in equation.params.values() for part in _branches(value)]
        if inner and name not in ("scan", "while"):
            for part in inner:
                yield from _names(getattr(part, "jaxpr", part))
            continue
        sizes = [getattr(v.aval, "size", 1) for v in (*equation.invars, *equation.outvars)]
        # A number broadcast to an array: whether that happens depends on the shapes only.
        is_fill = name == "broadcast_in_dim" and all(size == 1 for size in sizes[:-1])
        if name not in ELEMENTWISE and not is_fill and any(size > 1 for size in sizes):
            _refuse(f"it computes {name}")
        if name != "broadcast_in_dim":
            literals = [v.val for v in equation.invars if hasattr(v, "val")]
            yield f"{name} {literals}"


def _branches(value: Any) -> tuple:
    is_branches = isinstance(value, tuple) and any(_is_jaxpr(part) for part in value)
    return value if is_branches else ()


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")


def _refuse(why: str) -> None:
    raise NamedError(f"inner must be element-wise, but {why}")
