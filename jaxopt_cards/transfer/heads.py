"""Changes to the upper layers of a trained network: a new head, fewer or more hidden layers."""

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError, check_count
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.layers import MLP, he_normal
from jaxopt_cards.layers.initializers import initializer
from jaxopt_cards.training.inputs import check_model
from jaxopt_cards.transfer.mlp_parts import (
    check_mlp,
    check_rngs,
    check_upto,
    dense_layers,
    look_of,
    parts_of,
)

_Model = TypeVar("_Model", bound=nnx.Module)
_MLP = TypeVar("_MLP", bound=MLP)


@declare
def replace_head(
    model: _Model,
    out_features: Annotated[int, "[1, inf)"],
    *,
    rngs: nnx.Rngs,
    name: str = "logits",
    kernel_init: nnx.Initializer = he_normal,
) -> _Model:
    r"""Gives a network a new output layer for another task.

    The new dense layer has the input width and the dtypes of the old one, and a bias if that has
    one. All other layers are kept. The given model is not changed. A head that the model has under
    several names is replaced under all of them.

    Equation:
        .. math:: f_{\text{new}}(x) = h(x)\, W_{\text{new}} + b_{\text{new}}

        with :math:`h` the layers below the head.

    Args:
        model: NNX module with a dense layer `name`.
        out_features: number of classes of the new task.
        rngs: `nnx.Rngs`, the source of the new weights.
        name: attribute of the output layer; in a `layers.MLP` only `"logits"`.
        kernel_init: initialiser of the new kernel; default He's. The bias starts at zero.

    Returns:
        A copy of the model with the new layer.

    State:
        Parameters `logits/kernel` and `logits/bias`, new.

    Raises:
        ValueError: the model has no dense layer of that name, or it is a hidden layer of an MLP;
            `out_features` is outside its range.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Reusing Pretrained Layers" and exercise 9.1.

    Use when: the new task has different classes.
    Avoid when: you remove hidden layers (use `drop_layers`) or add some (use `insert_layers`).

    Example:
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, transfer
        >>> model = layers.MLP(4, 3, units=(2,), rngs=nnx.Rngs(0))
        >>> transfer.replace_head(model, 7, rngs=nnx.Rngs(1)).logits.kernel.shape
        (2, 7)
    """
    check_model(model)
    check_rngs(rngs)
    head = _head_of(model, name)
    new = nnx.clone(model)
    fresh = nnx.Linear(
        head.in_features,
        out_features,
        use_bias=head.use_bias,
        dtype=head.dtype,
        param_dtype=head.param_dtype,
        kernel_init=initializer(kernel_init),
        rngs=rngs,
    )
    old = getattr(new, name)
    for attribute in [key for key, layer in vars(new).items() if layer is old]:
        setattr(new, attribute, fresh)
    if isinstance(new, MLP) and new.batch_norm and new.batch_norm.on_logits:
        new.logits_norm = new.batch_norm.layer(out_features, rngs)
    return new


def _head_of(model: nnx.Module, name: Any) -> nnx.Linear:
    """The dense layer of that name; in an MLP only the last, since others feed the next layer."""
    dense = {key: layer for key, layer in vars(model).items() if isinstance(layer, nnx.Linear)}
    if isinstance(model, MLP):
        dense = {key: layer for key, layer in dense.items() if key == "logits"}
    if name not in list(dense):  # in a list: the name may not be hashable
        raise HyperparameterError("name", f"be a dense output layer, one of {list(dense)}", name)
    return dense[name]


@declare
def drop_layers(
    model: _MLP,
    upto: int,
    out_features: int | None = None,
    *,
    rngs: nnx.Rngs,
    kernel_init: nnx.Initializer = he_normal,
) -> _MLP:
    r"""Removes the layers above a hidden layer, and adds a new output layer.

    Hidden layers 1 to `upto` are kept with their weights, running statistics and activations, and
    so are dropout and its rates. The given model is not changed.

    Equation:
        .. math:: f_{\text{new}}(x) = h_k(x)\, W_{\text{new}} + b_{\text{new}}

        with :math:`h_k` the network up to hidden layer :math:`k` = `upto`.

    Args:
        model: a `layers.MLP`.
        upto: int in [0, inf), at most the number of hidden layers; the last one to keep.
        out_features: int in [1, inf); number of classes. Default: as many as before.
        rngs: `nnx.Rngs`, the source of the new weights.
        kernel_init: initialiser of the new kernel; default He's. The bias starts at zero.

    Returns:
        An MLP with `upto` hidden layers, in training mode.

    State:
        Parameters `logits/kernel` and `logits/bias`, new.

    Raises:
        ValueError: the model is not an `MLP`, or a number is outside its range.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Tweaking, Dropping, or Replacing the Upper Layers" and exercise 9.4.

    Use when: the tasks differ so much that the upper layers do not help the new one.
    Avoid when: you do not know how many layers help; `reuse_layers` tries all numbers.

    Example:
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, transfer
        >>> model = layers.MLP(4, 3, units=(8, 6, 2), rngs=nnx.Rngs(0))
        >>> lower = transfer.drop_layers(model, 2, 7, rngs=nnx.Rngs(1))
        >>> lower.depth, lower.logits.kernel.shape
        (2, (6, 7))
    """
    check_mlp(model)
    check_upto("upto", upto, model)
    return _with_top(model, upto, (), out_features, kernel_init, rngs)


@declare
def insert_layers(
    model: _MLP,
    units: Sequence[int],
    out_features: int | None = None,
    *,
    rngs: nnx.Rngs,
    kernel_init: nnx.Initializer = he_normal,
) -> _MLP:
    r"""Adds new hidden layers above those of a network, and a new output layer.

    The new layers have the network's activation and, if its first hidden layer has it, batch
    normalisation. Its dropout and DropConnect apply to them as well, except rates of a list. The
    layers below are kept with their weights and running statistics. The given model is not changed.
    To replace upper layers, call `drop_layers` first.

    Equation:
        .. math:: f_{\text{new}}(x) = g_{\text{new}}(h_n(x))

        with :math:`h_n` the hidden layers of the network, :math:`g_{\text{new}}` an MLP of `units`.

    Args:
        model: a `layers.MLP`.
        units: positive integers, at least one; widths of the new hidden layers, the lowest first.
        out_features: int in [1, inf); number of classes. Default: as many as before.
        rngs: `nnx.Rngs`, the source of the new weights.
        kernel_init: initialiser of the new kernels; default He's. Biases start at zero.

    Returns:
        An MLP with more hidden layers, in training mode.

    State:
        Parameters `hidden6/kernel`, `hidden6/bias`, …, `logits/kernel` and `logits/bias`, new.

    Raises:
        ValueError: the model is not an `MLP`, or a width is not a positive integer.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Tweaking, Dropping, or Replacing the Upper Layers".

    Use when: there are enough labels to train more layers than the network has.
    Avoid when: there are few labels, since new layers are trained from scratch.

    Example:
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, transfer
        >>> model = layers.MLP(4, 3, units=(8, 6, 2), rngs=nnx.Rngs(0))
        >>> lower = transfer.drop_layers(model, 2, rngs=nnx.Rngs(1))
        >>> higher = transfer.insert_layers(lower, (5, 5), 7, rngs=nnx.Rngs(1))
        >>> higher.depth, higher.hidden3.kernel.shape, higher.logits.kernel.shape
        (4, (6, 5), (5, 7))
    """
    check_mlp(model)
    if isinstance(units, str) or not isinstance(units, Sequence) or not units:
        raise HyperparameterError("units", "be a list of widths", units)
    for width in units:
        check_count("each of units", width)
    return _with_top(model, model.depth, units, out_features, kernel_init, rngs)


def _with_top(
    model: _MLP,
    upto: int,
    units: Sequence[int],
    out_features: int | None,
    kernel_init: nnx.Initializer,
    rngs: nnx.Rngs,
) -> _MLP:
    """A copy of the lower layers, with the layers of a new MLP above them."""
    if out_features is None:
        out_features = model.logits.out_features
    check_count("out_features", out_features)
    check_rngs(rngs)
    top = MLP(
        dense_layers(model)[upto].in_features,
        out_features,
        units,
        kernel_init=initializer(kernel_init),
        rngs=rngs,
        **look_of(model),
    )
    new = nnx.clone(model)
    for index in range(upto + 1, model.depth + 1):
        for end in parts_of(model, index):
            delattr(new, f"hidden{index}{end}")
        if hasattr(new, f"hidden{index}_dropout"):
            delattr(new, f"hidden{index}_dropout")
    for index in range(1, len(units) + 1):
        for end, part in parts_of(top, index).items():
            setattr(new, f"hidden{upto + index}{end}", part)
    new.depth, new.logits = upto + len(units), top.logits
    if hasattr(top, "logits_norm"):
        new.logits_norm = top.logits_norm
    new.train()  # like the new layers, so that all have the same mode
    return new
