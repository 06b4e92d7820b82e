"""Pictures of networks as stacks of boxes: taken, frozen, trained or new layers."""

import functools
import importlib
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from matplotlib.axes import Axes

import jaxopt_cards as jc
from jaxopt_cards import data, layers, transfer
from jaxopt_cards.cards.gallery.drawing import draws, stacks
from jaxopt_cards.cards.statistics import layer_statistics
from jaxopt_cards.core.paths import named
from jaxopt_cards.pictures.theme import line

_UNITS = (30, 20, 10)


@functools.cache
def _model() -> layers.MLP:
    return layers.MLP(64, 10, _UNITS, rngs=nnx.Rngs(0))


def _shapes(model: layers.MLP) -> list[tuple[str, tuple[int, ...]]]:
    """Each layer and the shape of its kernel, the lowest first."""
    names = [*(f"hidden{index}" for index in range(1, model.depth + 1)), "logits"]
    return [(name, getattr(model, name).kernel.shape) for name in names]


def _text(name: str, shape: tuple[int, ...]) -> str:
    return f"{name}\n{shape[0]} → {shape[1]}"


def _stack(model: layers.MLP, role: str = "given") -> list[tuple[str, str]]:
    return [(_text(name, shape), role) for name, shape in _shapes(model)]


def _changed(before: layers.MLP, after: layers.MLP) -> list[tuple[str, str]]:
    """The layers of a network: taken if the kernel has not changed, else new."""
    boxes = []
    for name, shape in _shapes(after):
        old: Any = getattr(before, name, None)
        same = old is not None and old.kernel.shape == shape
        same = same and bool(jnp.all(old.kernel[...] == getattr(after, name).kernel[...]))
        boxes.append((_text(name, shape), "taken" if same else "new"))
    return boxes


@draws("MLP")
def _mlp(ax: Axes, name: str) -> str:
    model = nnx.eval_shape(lambda: layers.MLP(784, 10, rngs=nnx.Rngs(0)))
    stacks(ax, [("", _stack(model, "trained"))])
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
    return f"MLP(784, 10): {count:,} parameters"


@draws("ResidualMLP")
def _residual(ax: Axes, name: str) -> str:
    """Sizes of the gradients in a deep network, layer by layer."""
    x, y = (part[:200] for part in data.digits().train)
    for index, kind in enumerate((layers.ResidualMLP, layers.MLP)):
        small = nnx.initializers.normal(0.05)
        model = kind(64, 10, (50,) * 30, kernel_init=small, rngs=nnx.Rngs(0))
        sizes = [layer.gradient_norm for layer in layer_statistics(model, x, y)]
        ax.plot(range(1, len(sizes) + 1), sizes, label=kind.__name__, **line(ax, index))
    ax.set(xlabel="layer", ylabel="norm of its gradient", yscale="log")
    ax.legend()
    return "30 layers of 50 units, small weights"


@draws("replace_head", "drop_layers", "insert_layers")
def _rebuilt(ax: Axes, name: str) -> str:
    model, rngs = _model(), nnx.Rngs(1)
    made = {
        "replace_head": lambda: transfer.replace_head(model, 5, rngs=rngs),
        "drop_layers": lambda: transfer.drop_layers(model, 2, 5, rngs=rngs),
        "insert_layers": lambda: transfer.insert_layers(model, (10,), 5, rngs=rngs),
    }[name]()
    stacks(ax, [("model", _stack(model)), ("result", _changed(model, made))])
    return name


@draws("restore")
def _restore(ax: Axes, name: str) -> str:
    fresh = layers.MLP(64, 5, _UNITS, rngs=nnx.Rngs(1))
    made, report = transfer.restore(fresh, _model(), "hidden[12]")
    columns = [("saved", _stack(_model())), ("model", _changed(_model(), made))]
    stacks(ax, columns)
    return f'by "hidden[12]": {len(report.taken)} arrays taken'


@draws("freeze")
def _freeze(ax: Axes, name: str) -> str:
    stacks(ax, [("", _trained(transfer.freeze("hidden[12]")))])
    return 'freeze("hidden[12]")'


@draws("unfreeze_schedule")
def _unfreeze(ax: Axes, name: str) -> str:
    schedule = transfer.unfreeze_schedule({0: "logits", 5: "hidden3", 10: ""})
    columns = [(f"from epoch {epoch}", _trained(schedule(epoch))) for epoch, _ in schedule.stages]
    stacks(ax, columns)
    return '{0: "logits", 5: "hidden3", 10: ""}'


def _trained(chosen: Any) -> list[tuple[str, str]]:
    """The layers, trained or frozen by a filter."""
    trained = nnx.state(_model(), chosen)
    return [
        (_text(name, shape), "trained" if name in trained else "frozen")
        for name, shape in _shapes(_model())
    ]


@draws("fine_tune")
def _fine_tune(ax: Axes, name: str) -> str:
    rate, ratio = 2e-3, 100.0
    shapes = _shapes(_model())
    tops = [_text(layer, shape) for layer, shape in shapes]
    head = [(text, "frozen") for text in tops[:-1]]
    head.append((f"{tops[-1]}\nrate {rate:g}", "trained"))
    rates = rate / 2 * np.geomspace(1 / ratio, 1.0, len(tops))
    whole = [
        (f"{text}\nrate {each:.1g}", "trained") for text, each in zip(tops, rates, strict=True)
    ]
    stacks(ax, [("first the head", head), ("then all", whole)])
    return "default peak learning rates of each stage"


@draws("cache_features")
def _cache(ax: Axes, name: str) -> str:
    x = jnp.zeros((100, 64))
    features = transfer.cache_features(_model(), 2, (x, np.zeros(100, int))).x
    boxes = [(text, "frozen") for text, _ in _stack(_model())]
    upper = [(f"features\n{features.shape}", "taken")]
    upper += [(text, "trained") for text, _ in _stack(_model())[2:]]
    lower = [(f"inputs\n{x.shape}", "given"), *boxes[:2]]
    stacks(ax, [("once", lower), ("in each epoch", upper)])
    return "cache_features(model, 2, …)"


@draws("fit_above")
def _fit_above(ax: Axes, name: str) -> str:
    upto, boxes = 1, _stack(_model(), "trained")
    lower = [("inputs", "given"), (boxes[0][0], "frozen")]
    upper = [("features", "taken"), *boxes[upto:]]
    whole = [(boxes[0][0], "frozen"), *boxes[upto:]]
    stacks(ax, [("once", lower), ("in each epoch", upper), ("returned", whole)])
    return "fit_above(model, tx, upto=1, …)"


@draws("reuse_layers")
def _reuse(ax: Axes, name: str) -> str:
    columns = []
    for depth in range(len(_UNITS) + 1):
        boxes = [
            (layer, "frozen" if index < depth else "new")
            for index, (layer, _) in enumerate(_shapes(_model()))
        ]
        columns.append((f"depth {depth}", boxes))
    stacks(ax, columns, arrows=False)
    return "a network is trained for each depth"


@draws("migrate_state")
def _migrate(ax: Axes, name: str) -> str:
    tx, head = jc.momentum(0.1, 0.9), {"logits": jnp.ones(1)}
    _, state = tx.update(head, tx.init(head))
    new = tx.init(head | {"hidden2": jnp.ones(1), "hidden3": jnp.ones(1)})
    moved = named(transfer.migrate_state(state, new)[0].trace)
    boxes = [
        (f"trace of {path}\n{leaf[0]:g}", "taken" if float(leaf[0]) else "new")
        for path, leaf in moved
    ]
    stacks(ax, [("old state", [("trace of logits\n1", "given")]), ("new state", boxes)])
    return "moments of trained parameters are kept"


@draws("from_torch")
def _from_torch(ax: Axes, name: str) -> str:
    saved = {"hidden1.bias": np.ones(30), "hidden1.weight": np.ones((30, 64))}
    saved |= {"logits.bias": np.ones(10), "logits.weight": np.ones((10, 30))}
    _converted(ax, {key: array.shape for key, array in saved.items()}, transfer.from_torch(saved))
    return "kernels are transposed, names are Flax's"


@draws("from_numpy", "from_safetensors", "from_keras")
def _from_file(ax: Axes, name: str) -> str:
    shapes = {"hidden1/bias": (30,), "hidden1/kernel": (64, 30)}
    arrays = {path: np.ones(shape, "float32") for path, shape in shapes.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model{_ENDINGS[name]}"
        _write(name, path, arrays)
        read = getattr(transfer, name)(path)
    keys = _KERAS if name == "from_keras" else dict(zip(arrays, arrays, strict=True))
    _converted(ax, {key: shapes[path] for key, path in keys.items()}, read)
    return f"a file {_ENDINGS[name]} becomes a tree"


_KERAS = {"layers/dense/vars/1": "hidden1/bias", "layers/dense/vars/0": "hidden1/kernel"}
_ENDINGS = {"from_numpy": ".npz", "from_safetensors": ".safetensors", "from_keras": ".weights.h5"}


def _write(name: str, path: str, arrays: dict[str, Any]) -> None:
    """Writes a file for the reader with this name."""
    if name == "from_numpy":
        np.savez(path, **arrays)
    elif name == "from_safetensors":
        importlib.import_module("safetensors.numpy").save_file(arrays, path)
    else:
        with importlib.import_module("h5py").File(path, "w") as file:
            for key, array in _KERAS.items():
                file[key] = arrays[array]
            file["layers/dense/vars"].attrs["name"] = "hidden1"


def _converted(ax: Axes, saved: dict[str, tuple[int, ...]], read: Any) -> None:
    """Draws the contents of a file, and the resulting tree."""
    before = [(f"{key}\n{shape}", "given") for key, shape in saved.items()]
    after = [(f"{path}\n{leaf.shape}", "given") for path, leaf in named(read)]
    stacks(ax, [("in the file", before), ("tree", after)])


@draws("pretrain_autoencoder", "pretrain_rbm")
def _pretrained(ax: Axes, name: str) -> str:
    decoder = "decoder" if name == "pretrain_autoencoder" else "visible again"
    columns = []
    for layer in range(1, len(_UNITS) + 1):
        boxes = [(f"hidden{index}", "frozen") for index in range(1, layer)]
        boxes += [(f"hidden{layer}", "trained"), (decoder, "new")]
        columns.append((f"stage {layer}", boxes))
    stacks(ax, columns)
    return "layer by layer, without labels"
