"""Weights saved by PyTorch, read without PyTorch and without unpickling."""

import os
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from jaxopt_cards.core.checks import escaped, shown
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.transfer.files.foreign import UnfitError, opened, walked
from jaxopt_cards.transfer.files.torch_files import tensors
from jaxopt_cards.transfer.files.torch_layout import layout


@declare
def from_torch(
    source: str | os.PathLike | Mapping[str, Any],
    *,
    embeddings: str = "embed",
    inputs_first: str | None = None,
    max_bytes: int = 2**33,
) -> dict[str, Any]:
    r"""Reads a PyTorch `state_dict`, from a file or from memory, as NNX would name it.

    Weights of dense layers (outputs, inputs) and convolutions (outputs, inputs, height, width)
    become kernels with their axes in Flax's order; those of normalisations
    become `scale`, `bias`, `mean` and `var`. The path before is kept: `net.hidden1.weight` is
    `net/hidden1/kernel`. A file is read without PyTorch, and nothing in it is ever called: what is
    not a description of arrays is refused by name. From a checkpoint with more in it, such as
    `{"state_dict": ..., "epoch": 3}`, all tensors are read, under the names of their dictionaries,
    and the rest is left out; so it is from memory. Tied weights, which are one tensor under two
    names, become one array under two names, unless their layers lay it out differently.

    The kernel of `torch.nn.ConvTranspose2d` fits `nnx.ConvTranspose` in two ways, with the same
    outputs: without `inputs_first` if the layer has `transpose_kernel=True`, and with it, which
    turns the kernel upside down, if it has the default, `transpose_kernel=False`. Where inputs and
    outputs are as many, the wrong one is not noticed. For PyTorch's `padding=p`, `output_padding=q`
    and a kernel of size k with dilation d, an axis of `nnx.ConvTranspose` needs the padding
    `(d * (k - 1) - p, d * (k - 1) - p + q)`.

    Files of PyTorch before 1.6 are read as well, and pickles of protocols 0 to 5.

    A dense layer on a flattened convolution expects its inputs by channel, height, width; Flax
    flattens height, width, channel, and nothing in a state_dict tells. Put them in order yourself,
    here for `fc` on 8 channels of 5 times 5:

        kernel = saved["fc"]["kernel"].reshape(8, 5, 5, -1)
        saved["fc"]["kernel"] = kernel.transpose(1, 2, 0, 3).reshape(8 * 5 * 5, -1)
        model, report = transfer.restore(model, saved)

    Equation:
        .. math:: W_{\mathrm{NNX}} = W_{\mathrm{torch}}^\top, \qquad
            K_{\mathrm{NNX}}[h, w, i, o] = K_{\mathrm{torch}}[o, i, h, w]

    Args:
        source: a file of `torch.save(model.state_dict(), path)`, or the mapping itself.
        embeddings: regular expression over module paths; two-dimensional weights there, without
            bias, are tables of embeddings and keep their axes: a state_dict does not tell them
            from dense layers.
        inputs_first: regular expression over module paths whose weights are stored as (inputs,
            outputs, ...), which a state_dict does not tell either: the `Conv1D` of GPT-2, with
            `"attn|mlp"`, whose kernels keep their axes, and transposed convolutions (see below).
            Default: none; a pattern that matches no weight is an error.
        max_bytes: whole number > 0; files that declare more are not read.

    Returns:
        A nested dictionary of NumPy arrays, for `restore`; bfloat16 as it is.

    Raises:
        ValueError: the file is damaged, of another format, too large, or asks for anything beyond
            a state_dict; a tensor is not a plain array (sparse, quantised, a conjugate view);
            `inputs_first` matches no weight.
        OSError: there is no such file, or it may not be read.

    References:
        Adam Paszke et al. (2019), PyTorch: An Imperative Style, High-Performance Deep Learning
        Library. Chapter 11, "Reusing Models from Other Frameworks".

    Use when: a network was trained with PyTorch.
    Avoid when: the file has a pickled module or TorchScript; save its state_dict first.

    Example:
        >>> import numpy as np
        >>> from jaxopt_cards import transfer
        >>> state_dict = {"hidden1.weight": np.ones((3, 2)), "hidden1.bias": np.zeros(3)}
        >>> transfer.from_torch(state_dict)["hidden1"]["kernel"].shape
        (2, 3)
    """
    given = layout(embeddings, inputs_first)
    if isinstance(source, Mapping):
        try:
            return given.tree(_in_memory(source), True)
        except UnfitError as error:
            raise NamedError(f"the state_dict {escaped(error)}") from None
    with opened(source, max_bytes) as file:
        return given.tree(tensors(file, max_bytes), True)


def _in_memory(state_dict: Mapping[str, Any]) -> list[tuple[str, np.ndarray]]:
    """The arrays of a state_dict; tensors that are the same view of the same numbers are one."""
    named = list(walked(state_dict, lambda value: hasattr(value, "shape")))
    arrays = {_identity(value): (name, value) for name, value in reversed(named)}
    copies = {key: _array(name, value) for key, (name, value) in arrays.items()}
    return [(name, copies[_identity(value)]) for name, value in named]


def _identity(value: Any) -> Any:
    """What two tensors have in common that share their numbers; PyTorch has a new one each time."""
    try:
        place = value.data_ptr(), str(getattr(value, "device", None)), str(value.dtype)
        view = tuple(value.shape), tuple(value.stride()), value.is_conj(), value.is_neg()
    except (AttributeError, RuntimeError):  # no tensor of PyTorch, or a sparse one
        return id(value)
    return place, view


def _array(name: str, value: Any) -> np.ndarray:
    """A tensor of PyTorch, or an array of any kind, as one of NumPy."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            # PyTorch does not give NumPy its bfloat16, but each is a float32 too.
            if str(value.dtype) == "torch.bfloat16":
                return value.float().numpy().astype(ml_dtypes.bfloat16)
            return value.numpy().copy()
        array = np.array(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnfitError(f"has {shown(name)}, which is not a plain array: {error}") from None
    if array.dtype.kind not in "biufcV":
        raise UnfitError(f"has {shown(name)}, which is not an array but a {type(value).__name__}")
    return array
