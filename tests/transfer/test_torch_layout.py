"""Layers whose weights PyTorch stores as (inputs, outputs, ...), with the outputs of PyTorch."""

from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from jaxopt_cards import transfer

FILE = Path(__file__).parent / "foreign" / "torch_inputs_first.pt"
STATE = {"attn.weight": np.arange(6.0).reshape(2, 3), "attn.bias": np.zeros(3)}


def upsampled(saved, transpose_kernel):
    """The outputs of `nnx.ConvTranspose` with the padding that the docstring of the reader says."""
    padding, output_padding = 1, 1
    pads = [(k - 1 - padding, k - 1 - padding + output_padding) for k in (3, 2)]
    model = nnx.ConvTranspose(
        3, 3, (3, 2), 2, padding=pads, transpose_kernel=transpose_kernel, rngs=nnx.Rngs(0)
    )
    model, report = transfer.restore(model, saved["net"]["up"])
    assert len(report.taken) == 2
    outputs = model(saved["images"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return np.abs(outputs - saved["outputs"]["up"]).max()


def test_transposed_convolutions_have_the_outputs_of_pytorch():
    plain, told = (transfer.from_torch(FILE, inputs_first=first) for first in (None, "up|attn"))
    assert upsampled(plain, transpose_kernel=True) < 1e-6
    assert upsampled(told, transpose_kernel=False) < 1e-6
    assert min(upsampled(plain, False), upsampled(told, True)) > 0.1


def test_the_layers_of_gpt2_have_the_outputs_of_pytorch():
    saved = transfer.from_torch(FILE, inputs_first="attn")
    model, _ = transfer.restore(nnx.Linear(3, 3, rngs=nnx.Rngs(0)), saved["net"]["attn"])
    np.testing.assert_allclose(model(saved["rows"]), saved["outputs"]["attn"], rtol=1e-5, atol=1e-6)


def test_all_readers_are_told_alike(tmp_path):
    np.savez(tmp_path / "net.npz", **STATE)
    save_file(STATE, tmp_path / "net.safetensors")
    found = [
        transfer.from_torch(STATE, inputs_first="^attn$"),
        transfer.from_numpy(tmp_path / "net.npz", convention="torch", inputs_first="attn"),
        transfer.from_safetensors(tmp_path / "net.safetensors", inputs_first="attn"),
    ]
    for saved in found:
        np.testing.assert_array_equal(saved["attn"]["kernel"], STATE["attn.weight"])
    assert transfer.from_torch(STATE)["attn"]["kernel"].shape == (3, 2)
    # It wins over `embeddings`, since it was given for this file.
    table = {"embed.weight": STATE["attn.weight"]}
    assert list(transfer.from_torch(table, inputs_first="embed")["embed"]) == ["kernel"]


def test_patterns_that_say_nothing_are_refused(tmp_path):
    np.savez(tmp_path / "net.npz", **STATE)
    with pytest.raises(
        ValueError, match=r"from_torch: .*no weight of two .* inputs_first='mlp' mat"
    ):
        transfer.from_torch(STATE, inputs_first="mlp")
    with pytest.raises(ValueError, match=r"from_numpy: .*where inputs_first has no meaning"):
        transfer.from_numpy(tmp_path / "net.npz", inputs_first="attn")
    for reader in (transfer.from_torch, transfer.from_numpy, transfer.from_safetensors):
        with pytest.raises(ValueError, match=rf"{reader.__name__}: '\(' is not a regular express"):
            reader(tmp_path / "net.npz", inputs_first="(")
