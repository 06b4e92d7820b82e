"""Makes the files beside it with the real libraries, none of which the tests need.

python3.11 -m venv venv
venv/bin/pip install torch==2.13.0 keras h5py safetensors scikit-learn jax
KERAS_BACKEND=jax venv/bin/python tests/transfer/foreign/make.py

Networks of 64, 16, 8 and 10 units with batch normalisation, ELU, trained for a moment on digits;
`outputs.npz` holds 32 digits and what each network said of them.
"""

import collections
from pathlib import Path

import keras
import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn

HERE = Path(__file__).parent
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden1, self.norm1 = nn.Linear(64, 16, bias=False), nn.BatchNorm1d(16)
        self.hidden2, self.norm2 = nn.Linear(16, 8, bias=False), nn.BatchNorm1d(8)
        self.logits = nn.Linear(8, 10)

    def forward(self, x):
        elu = nn.functional.elu
        x = elu(self.norm1(self.hidden1(x)))
        return self.logits(elu(self.norm2(self.hidden2(x))))


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, (3, 2), padding="valid")
        self.logits = nn.Linear(4, 10)

    def forward(self, x):
        return self.logits(torch.relu(self.conv(x)).mean((2, 3)))


def trained(net, x):
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), torch.tensor(Y)).backward()
        optimizer.step()
    return net.eval(), optimizer


def with_torch():
    torch.manual_seed(0)
    x, images = torch.tensor(X), torch.tensor(X.reshape(-1, 1, 8, 8))
    net, optimizer = trained(Net(), x)
    conv, _ = trained(Images(), images)
    torch.save(net.state_dict(), HERE / "torch.pt")
    save_file(net.state_dict(), HERE / "torch.safetensors")
    torch.save(conv.state_dict(), HERE / "torch_conv.pt")
    torch.save(
        {"epoch": 3, "state_dict": net.state_dict(), "optimizer": optimizer.state_dict()},
        HERE / "torch_checkpoint.pt",
    )
    base = torch.arange(24.0).reshape(4, 6)
    odd = {
        "transposed": base.T,
        "sliced": base[1:, ::2],
        "shared": base[1],
        "parameter": nn.Parameter(torch.ones(2)),
        "bfloat16": torch.tensor([1.5, -2.0, float("nan")], dtype=torch.bfloat16),
        "float16": torch.tensor([0.5], dtype=torch.float16),
        "int64": torch.tensor(7),
        "bool": torch.tensor([True, False]),
        "complex": torch.tensor([1 + 2j]),
        "empty": torch.zeros(0, 3),
        "embed.weight": torch.arange(6.0).reshape(3, 2),
    }
    torch.save(odd, HERE / "torch_odd.pt")
    young = {
        "uint16": torch.tensor([1, 65535], dtype=torch.uint16),
        "float8": torch.tensor([0.5, -1.0]).to(torch.float8_e4m3fn),
    }
    torch.save(young, HERE / "torch_young.pt")
    torch.save(net, HERE / "torch_module.pt")
    torch.save(net.state_dict(), HERE / "torch_legacy.pt", _use_new_zipfile_serialization=False)
    torch.jit.trace(net, x[:2]).save(HERE / "torch_script.pt")
    with torch.no_grad():
        return {"torch": net(x[:32]).numpy(), "torch_conv": conv(images[:32]).numpy()}


def with_torch_protocols():
    """A checkpoint with all that may be beside the weights, in each protocol and both formats."""
    torch.manual_seed(0)
    net = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        net.weight.copy_(torch.arange(6.0).reshape(2, 3))
        net.bias.copy_(torch.tensor([-1.0, 1.0]))
    marked = nn.Parameter(torch.full((2,), 3.0))
    marked.note = "of a user"
    state_dict = net.state_dict() | {
        "tied.weight": net.weight,
        "young": torch.tensor([1, 65535], dtype=torch.uint16),
        "view": torch.arange(24.0).reshape(4, 6)[1:, ::2],
        "marked": marked,
    }
    counts = collections.defaultdict(int, {"seen": 3})
    beside = {
        "torch": [torch.Size([2, 3]), torch.float16, torch.device("cuda:1"), torch.strided],
        "sets": [{1, "two"}, frozenset({3}), set()],
        "bytes": [b"", b"\x00\xff", bytearray(b"abc"), b"x" * 300],
        "numbers": [1 + 2j, 2**70, -(2**40), 1.5, float("nan"), True, np.float64(0.9)],
        "dictionaries": [counts, collections.Counter("aab"), collections.OrderedDict(a=1)],
        "text": ["größer 🙂", "a\nb\\c", "", "long" * 99],
        None: None,
        3: {"kernel": torch.ones(1)},
        1.5: 0,
        False: 0,
        ("pair", 2): 0,
        frozenset({1}): 0,
    }
    content = {"net": state_dict, "optimizer": optimizer.state_dict(), "beside": beside}
    for protocol in range(6):
        for is_zip in (True, False):
            name = f"torch_protocol{protocol}{'' if is_zip else '_legacy'}.pt"
            torch.save(
                content,
                HERE / name,
                pickle_protocol=protocol,
                _use_new_zipfile_serialization=is_zip,
            )


def with_torch_inputs_first():
    """Layers whose weights are (inputs, outputs, ...), with as many of the one as of the other."""
    torch.manual_seed(0)
    up = nn.ConvTranspose2d(3, 3, (3, 2), stride=2, padding=1, output_padding=1)
    images, rows = torch.randn(2, 3, 5, 6), torch.randn(4, 3)
    weight, bias = torch.randn(3, 3), torch.randn(3)
    with torch.no_grad():
        # As `Conv1D` of GPT-2 does it.
        outputs = {"up": up(images), "attn": torch.addmm(bias, rows, weight)}
    state_dict = {"attn.weight": weight, "attn.bias": bias, "up.weight": up.weight}
    content = {"net": state_dict | {"up.bias": up.bias}, "images": images, "rows": rows}
    torch.save(content | {"outputs": outputs}, HERE / "torch_inputs_first.pt")


def with_keras():
    keras.utils.set_random_seed(0)
    layers = [keras.Input((64,))]
    for index, units in enumerate((16, 8), start=1):
        layers.append(keras.layers.Dense(units, use_bias=False, name=f"hidden{index}"))
        layers.append(keras.layers.BatchNormalization(epsilon=1e-5, name=f"hidden{index}_norm"))
        layers.append(keras.layers.Activation("elu"))
    layers.append(keras.layers.Dense(10, name="logits"))
    net = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.1), loss)
    net.fit(X, Y, epochs=2, verbose=0)
    net.save(HERE / "keras.keras")
    net.save(HERE / "keras_legacy.h5")
    net.save_weights(HERE / "keras.weights.h5")

    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, (3, 2), activation="relu", name="conv")(inputs)
    x = keras.layers.BatchNormalization(scale=False, epsilon=1e-5, name="norm")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    top = keras.Sequential([keras.Input((4,)), keras.layers.Dense(10, name="logits")], name="top")
    conv = keras.Model(inputs, top(x))
    conv.compile(keras.optimizers.SGD(0.1), loss)
    conv.fit(X.reshape(-1, 8, 8, 1), Y, epochs=2, verbose=0)
    conv.save(HERE / "keras_conv.keras")
    conv.save(HERE / "keras_conv_legacy.h5")
    conv.save_weights(HERE / "keras_conv.weights.h5")
    images = X[:32].reshape(-1, 8, 8, 1)
    return {"keras": np.asarray(net(X[:32])), "keras_conv": np.asarray(conv(images))}


def with_epsilon_of_keras():
    keras.utils.set_random_seed(0)
    layers = [
        keras.Input((64,)),
        keras.layers.Dense(16, use_bias=False, name="hidden1"),
        keras.layers.BatchNormalization(name="hidden1_norm"),
        keras.layers.Activation("elu"),
        keras.layers.Dense(10, name="logits"),
    ]
    net = keras.Sequential(layers)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.1), loss)
    net.fit(X, Y, epochs=2, verbose=0)
    net.save(HERE / "keras_epsilon.keras")
    net.save(HERE / "keras_epsilon_legacy.h5")
    net.save_weights(HERE / "keras_epsilon.weights.h5")
    return {"keras_epsilon": np.asarray(net(X[:32]))}


if __name__ == "__main__":
    with_torch_protocols()
    with_torch_inputs_first()
    outputs = with_torch() | with_keras() | with_epsilon_of_keras()
    np.savez(HERE / "outputs.npz", x=X[:32], **outputs)
