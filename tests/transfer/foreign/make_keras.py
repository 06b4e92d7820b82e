"""Makes the files of `keras_versions` with one version of Keras; run it once with each.

python3.11 -m venv venv
venv/bin/pip install keras==3.3.3 h5py scipy "jax<0.5" packaging   # or tensorflow-cpu==2.15.1
KERAS_BACKEND=jax venv/bin/python tests/transfer/foreign/make_keras.py

The versions: 2.15.0 (of TensorFlow), 3.0.5, 3.3.3, 3.5.0 without names beside the weights, 3.15.1
with them. Each array has the numbers that `numbers` draws for its path, so a test needs no other
file to tell whether a path is right. Archives are compressed again; nothing else is changed.
"""

import zipfile
import zlib
from pathlib import Path

import keras
import numpy as np
from keras import layers

FOLDER = Path(__file__).with_name("keras_versions")
NAMES = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}


def numbers(path, shape):
    """The array of a path, such as `inner/shared/kernel`."""
    random = np.random.default_rng(zlib.crc32(path.encode()))
    return random.uniform(0.5, 1.5, shape).astype("float32")


def towers():
    """Two inputs, whose layers were made in another order than they are listed in."""
    names = [f"{side}{index}" for side in ("right", "left") for index in range(2)]
    dense = {name: layers.Dense(3, name=name) for name in names}
    inputs = {"left": keras.Input((3,), name="a"), "right": keras.Input((3,), name="b")}
    ends = {}
    for side, x in inputs.items():
        x = dense[f"{side}1"](dense[f"{side}0"](x))
        ends[side] = layers.BatchNormalization(
            epsilon=0.01 if side == "left" else 0.03, scale=side == "left", name=f"{side}_norm"
        )(x)
    both = layers.Add()(
        [layers.Dropout(0.1)(ends["left"]), layers.Activation("relu")(ends["right"])]
    )
    return keras.Model([*inputs.values()], layers.Dense(2)(both))


def nested():
    """Models in models, one of which shares a layer with the model around it, and a wrapper."""
    shared = layers.Dense(3, name="shared")
    x = keras.Input((3,))
    inner = keras.Model(
        x, layers.Dense(3, name="out")(shared(layers.Dense(3, name="in")(x))), name="inner"
    )
    norm = layers.BatchNormalization(epsilon=0.05)
    auto = keras.Sequential(
        [keras.Input((3,)), layers.Dense(3), norm, layers.Dense(3)], name="auto"
    )
    core = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="core")], name="mid")
    deep = keras.Sequential([keras.Input((3,)), core], name="deep")
    x = keras.Input((3,))
    y = layers.Dense(3, name="one")(shared(auto(inner(layers.Dense(3, name="zero")(x)))))
    y = layers.Reshape((1, 3))(deep(inner(y)))
    each = layers.TimeDistributed(
        layers.BatchNormalization(epsilon=0.07, name="inside"), name="each"
    )
    return keras.Model(x, each(y))


def legacy():
    """A small one for the format that is not compressed."""
    norm = layers.BatchNormalization(epsilon=0.05, name="norm")
    core = keras.Sequential([keras.Input((3,)), layers.Dense(3, name="core"), norm], name="mid")
    deep = keras.Sequential([keras.Input((3,)), core], name="deep")
    x = keras.Input((3,))
    return keras.Model(x, layers.Dense(2, name="top")(deep(x)))


class Net(keras.Model):
    """A model whose configuration does not list its layers."""

    def __init__(self):
        super().__init__(name="net")
        self.hidden = layers.Dense(3, name="first")
        self.norm = layers.BatchNormalization(epsilon=0.02, name="second")
        self.zz = layers.Dense(3, name="third")

    def call(self, x):
        return self.zz(self.norm(self.hidden(x)))


def fill(model, prefix=""):
    """Gives the arrays of each layer the numbers of their path, of the first if it is shared."""
    for layer in model.layers:
        path = f"{prefix}{layer.name}"
        if hasattr(layer, "layers"):
            fill(layer, f"{path}/")
        elif layer.weights and layer not in FILLED:
            FILLED.append(layer)
            path += "/layer" if isinstance(layer, layers.TimeDistributed) else ""
            names = [w.name.rpartition("/")[2].partition(":")[0] for w in layer.weights]
            paths = [f"{path}/{NAMES.get(name, name)}" for name in names]
            arrays = zip(paths, layer.get_weights(), strict=True)
            layer.set_weights([numbers(path, array.shape) for path, array in arrays])


FILLED = []


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    # Not the first of the session, so that Keras's names have numbers: dense_1, …
    keras.Sequential([keras.Input((1,)), layers.Dense(1), layers.BatchNormalization()])
    net = Net()
    net(np.zeros((1, 3), "float32"))
    for name, model in {"towers": towers(), "nested": nested(), "net": net}.items():
        for inner in getattr(model, "layers", []):  # in the order in which it is saved
            if hasattr(inner, "layers"):
                fill(inner, f"{inner.name}/")
        fill(model)
        path = FOLDER / f"{name}_{keras.__version__}.keras"
        model.save(path)
        with zipfile.ZipFile(path) as old:
            entries = {info.filename: old.read(info) for info in old.infolist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
            for entry, content in entries.items():
                new.writestr(entry, content)
    small = legacy()
    fill(small)
    small.save(FOLDER / f"legacy_{keras.__version__}.h5")
