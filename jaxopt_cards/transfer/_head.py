"""A new output layer on a trained network."""

from typing import TypeVar

from flax import nnx

from jaxopt_cards._checks import HyperparameterError, check_count
from jaxopt_cards.layers import he_normal

_Model = TypeVar("_Model", bound=nnx.Module)


def replace_head(
    model: _Model,
    out_features: int,
    *,
    rngs: nnx.Rngs,
    name: str = "logits",
    kernel_init: nnx.Initializer = he_normal,
) -> _Model:
    r"""Gives a network a fresh output layer for another task.

    The new dense layer has the old one's input width, dtypes and use of a bias. All other layers
    are kept as they are; the model given is not changed.

    Equation:
        .. math:: f_{\text{new}}(x) = h(x)\, W_{\text{new}} + b_{\text{new}}

        with :math:`h` the layers below the head.

    Args:
        model: NNX module with a dense layer `name`.
        out_features: whole number > 0; classes of the new task.
        rngs: `nnx.Rngs`, the source of the new weights.
        name: attribute of the layer to replace.
        kernel_init: initialiser of the new kernel; default He's. The bias starts at zero.

    Returns:
        A copy of the model with the new layer.

    State:
        Parameters `logits/kernel` and `logits/bias`, new.

    Raises:
        ValueError: the model has no dense layer of that name, or a width that is not a whole
            number > 0.

    References:
        Aurélien Géron (2017), Hands-On Machine Learning with Scikit-Learn and TensorFlow, chapter
        11, "Reusing Pretrained Layers" and exercise 9.1.

    Use when: the new task has other classes.
    Avoid when: upper hidden layers go as well; make a new model and `restore` the lower ones.

    Example:
        >>> from flax import nnx
        >>> from jaxopt_cards import layers, transfer
        >>> model = layers.MLP(4, 3, units=(2,), rngs=nnx.Rngs(0))
        >>> transfer.replace_head(model, 7, rngs=nnx.Rngs(1)).logits.kernel.shape
        (2, 7)
    """
    check_count("replace_head", "out_features", out_features)
    head = getattr(model, name, None)
    if not isinstance(head, nnx.Linear):
        layers = [key for key, value in vars(model).items() if isinstance(value, nnx.Linear)]
        raise HyperparameterError(
            "replace_head", "name", f"be a dense layer, one of {layers}", name
        )
    new = nnx.clone(model)
    fresh = nnx.Linear(
        head.in_features,
        out_features,
        use_bias=head.use_bias,
        dtype=head.dtype,
        param_dtype=head.param_dtype,
        kernel_init=kernel_init,
        rngs=rngs,
    )
    setattr(new, name, fresh)
    return new
