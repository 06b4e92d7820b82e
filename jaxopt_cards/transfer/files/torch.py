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
    r"""Reads a PyTorch `state_dict` from a file or from memory, with NNX's names and axes.

    Weights of dense layers (outputs, inputs) and convolutions (outputs, inputs, height, width)
    become kernels with axes in Flax's order. Those of normalisations become `scale`, `bias`, `mean`
    and `var`. Module paths are kept: `net.hidden1.weight` becomes `net/hidden1/kernel`. A file is
    read without PyTorch, and nothing in it is executed; pickles of anything but arrays are refused.
    From a larger checkpoint, such as `{"state_dict": ..., "epoch": 3}`, in a file or in memory, all
    tensors are read, with the names of their dictionaries, and the rest is left out. Tied weights,
    one tensor with two names, become one array with two names, unless their layers need different
    axes.

    The kernel of `torch.nn.ConvTranspose2d` fits `nnx.ConvTranspose` in two ways, with the same
    outputs: without `inputs_first` if the layer has `transpose_kernel=True`, and with
    `inputs_first`, which flips the kernel, if it has the default `transpose_kernel=False`. With
    equally many inputs and outputs, the wrong one is not detected. For PyTorch's `padding=p`,
    `output_padding=q` and a kernel of size k with dilation d, an axis of `nnx.ConvTranspose` needs
    the padding `(d * (k - 1) - p, d * (k - 1) - p + q)`.

    Files of PyTorch before 1.6 and pickles of protocols 0 to 5 can be read.

    A dense layer after a flattened convolution has its inputs in the order channel, height, width
    in PyTorch, and height, width, channel in Flax. A state_dict does not contain this, so reorder
    them yourself, here for `fc` after 8 channels of 5 times 5:

        kernel = saved["fc"]["kernel"].reshape(8, 5, 5, -1)
        saved["fc"]["kernel"] = kernel.transpose(1, 2, 0, 3).reshape(8 * 5 * 5, -1)
        model, report = transfer.restore(model, saved)

    Equation:
        .. math:: W_{\mathrm{NNX}} = W_{\mathrm{torch}}^\top, \qquad
            K_{\mathrm{NNX}}[h, w, i, o] = K_{\mathrm{torch}}[o, i, h, w]

    Args:
        source: a file of `torch.save(model.state_dict(), path)`, or the mapping itself.
        embeddings: regular expression over module paths. Two-dimensional weights without bias there
            are tables of embeddings and keep their axes; a state_dict does not distinguish them
            from dense layers.
        inputs_first: regular expression over paths of modules whose weights have the axes (inputs,
            outputs, ...), which a state_dict does not contain either: `"attn|mlp"` for the `Conv1D`
            of GPT-2, and transposed convolutions (see above). Default: none. A pattern that matches
            no weight is an error.
        max_bytes: int in [1, inf); files that declare more are refused.

    Returns:
        A nested dictionary of NumPy arrays, for `restore`; bfloat16 is kept.

    Raises:
        ValueError: the file is damaged, in another format, too large, or has more than a
            state_dict; a tensor is not a plain array (sparse, quantised, a conjugate view);
            `inputs_first` matches no weight.
        OSError: the file does not exist or cannot be read.

    References:
        Adam Paszke et al. (2019), PyTorch: An Imperative Style, High-Performance Deep Learning
        Library. Géron (2017), chapter 11, "Reusing Models from Other Frameworks".

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
    """The arrays of a state_dict; equal views of the same storage become one array."""
    named = list(walked(state_dict, lambda value: hasattr(value, "shape")))
    arrays = {_identity(value): (name, value) for name, value in reversed(named)}
    copies = {key: _array(name, value) for key, (name, value) in arrays.items()}
    return [(name, copies[_identity(value)]) for name, value in named]


def _identity(value: Any) -> Any:
    """A key that is equal for equal views of a storage, which are different objects in PyTorch."""
    try:
        place = value.data_ptr(), str(getattr(value, "device", None)), str(value.dtype)
        view = tuple(value.shape), tuple(value.stride()), value.is_conj(), value.is_neg()
    except (AttributeError, RuntimeError):  # not a PyTorch tensor, or a sparse one
        return id(value)
    return place, view


def _array(name: str, value: Any) -> np.ndarray:
    """A PyTorch tensor, or any array, as a NumPy array."""
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            # PyTorch cannot convert bfloat16 to NumPy, but float32 is exact.
            if str(value.dtype) == "torch.bfloat16":
                return value.float().numpy().astype(ml_dtypes.bfloat16)
            return value.numpy().copy()
        array = np.array(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UnfitError(f"has {shown(name)}, which is not a plain array: {error}") from None
    if array.dtype.kind not in "biufcV":
        raise UnfitError(f"has {shown(name)}, which is not an array but a {type(value).__name__}")
    return array
