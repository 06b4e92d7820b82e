"""The upper end of a trained network: a new head, fewer hidden layers, more of them."""

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
    r"""Gives a network a fresh output layer for another task.

    The new dense layer has the old one's input width, dtypes and use of a bias. All other layers
    are kept as they are; the model given is not changed. A head that the model has under several
    names stays one layer: it is replaced under each of them.

    Equation:
        .. math:: f_{\text{new}}(x) = h(x)\, W_{\text{new}} + b_{\text{new}}

        with :math:`h` the layers below the head.

    Args:
        model: NNX module with a dense layer `name`.
        out_features: whole number > 0; classes of the new task.
        rngs: `nnx.Rngs`, the source of the new weights.
        name: attribute of the output layer; of a `layers.MLP` only `"logits"`.
        kernel_init: initialiser of the new kernel; default He's. The bias starts at zero.

    Returns:
        A copy of the model with the new layer.

    State:
        Parameters `logits/kernel` and `logits/bias`, new.

    Raises:
        ValueError: the model has no dense layer of that name, or it is a hidden layer of an MLP; a
            width that is not a whole number > 0.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Reusing Pretrained Layers" and exercise 9.1.

    Use when: the new task has other classes.
    Avoid when: upper hidden layers go as well: `drop_layers`; or some are added: `insert_layers`.

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
    return new


def _head_of(model: nnx.Module, name: Any) -> nnx.Linear:
    """The dense layer of that name; of an MLP only the last, as others feed the next layer."""
    dense = {key: layer for key, layer in vars(model).items() if isinstance(layer, nnx.Linear)}
    if isinstance(model, MLP):
        dense = {key: layer for key, layer in dense.items() if key == "logits"}
    if name not in list(dense):  # of a list: the name may be no text
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
    r"""Cuts a network off above a hidden layer, and gives it a fresh output layer there.

    Hidden layers 1 to `upto` are kept with their weights, running statistics and activations;
    dropout and its rates stay. The model given is not changed.

    Equation:
        .. math:: f_{\text{new}}(x) = h_k(x)\, W_{\text{new}} + b_{\text{new}}

        with :math:`h_k` the network up to hidden layer :math:`k` = `upto`.

    Args:
        model: a `layers.MLP`.
        upto: whole number >= 0, at most the hidden layers that there are; the last one to keep.
        out_features: whole number > 0; classes of the new task. Default: as many as before.
        rngs: `nnx.Rngs`, the source of the new weights.
        kernel_init: initialiser of the new kernel; default He's. The bias starts at zero.

    Returns:
        An MLP of `upto` hidden layers, in training mode.

    State:
        Parameters `logits/kernel` and `logits/bias`, new.

    Raises:
        ValueError: the model is no `MLP`, or a number outside its range.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Tweaking, Dropping, or Replacing the Upper Layers" and exercise 9.4.

    Use when: the tasks differ so much that the upper layers do not help.
    Avoid when: you do not know how many layers help; `reuse_layers` tries them all.

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
    r"""Puts new hidden layers on top of those of a network, and a fresh output layer above them.

    The new layers have the network's activation and, if it has any hidden layer with it, batch
    normalisation; its dropout and DropConnect apply to them as well. The layers below are kept with
    their weights and running statistics. The model given is not changed. To replace upper layers,
    insert into what `drop_layers` returns.

    Equation:
        .. math:: f_{\text{new}}(x) = g_{\text{new}}(h_n(x))

        with :math:`h_n` the hidden layers of the network, :math:`g_{\text{new}}` an MLP of `units`.

    Args:
        model: a `layers.MLP`.
        units: whole numbers > 0, at least one; widths of the new hidden layers, from below.
        out_features: whole number > 0; classes of the new task. Default: as many as before.
        rngs: `nnx.Rngs`, the source of the new weights, drawn from below.
        kernel_init: initialiser of the new kernels; default He's. Biases start at zero.

    Returns:
        An MLP of so many hidden layers more, in training mode.

    State:
        Parameters `hidden6/kernel`, `hidden6/bias`, …, `logits/kernel` and `logits/bias`, new.

    Raises:
        ValueError: the model is no `MLP`, or a width that is not a whole number > 0.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Tweaking, Dropping, or Replacing the Upper Layers".

    Use when: there are labels enough for more layers than the trained network has.
    Avoid when: labels are few: each new layer has to be learned from them alone.

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
    """The lower layers of a copy, and above them those of a new MLP."""
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
    for index in range(1, len(units) + 1):
        for end, part in parts_of(top, index).items():
            setattr(new, f"hidden{upto + index}{end}", part)
    new.depth, new.logits = upto + len(units), top.logits
    new.train()  # new layers are, and a network is of one mode
    return new
