"""The zoo gives back the bits that were stored, and believes nothing of what strangers wrote."""

import hashlib
import json
import os
import random
import shutil
import struct
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax import nnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxopt_cards as jc
from jaxopt_cards import layers, training, transfer
from jaxopt_cards.storage import locks as _locks
from jaxopt_cards.transfer import Zoo
from jaxopt_cards.transfer import zoo as _zoo
from jaxopt_cards.transfer import zoo_folder as _zoo_folder
from jaxopt_cards.transfer.model_card import CHECKS, DTYPE_NAMES, card_from
from tests.limits import no_file_longer_than

X = np.random.default_rng(0).normal(size=(20, 5)).astype("float32")
ABOUT = {"data": "digits", "accuracy": 0.9}


def model(seed=0, units=(4, 3), **kwargs):
    return layers.MLP(5, 3, units=units, rngs=nnx.Rngs(seed), **kwargs)


def outputs(net):
    net = nnx.clone(net)
    net.eval()
    return np.asarray(net(X))


class Pair(nnx.Module):
    """A module that no card can build: a list, half precision, whole numbers, a switch."""

    def __init__(self, seed=0, width=4):
        rngs = nnx.Rngs(seed)
        dense = [nnx.Linear(5, width, param_dtype=jnp.bfloat16, rngs=rngs) for _ in range(2)]
        self.layers = nnx.List(dense)
        self.flags = nnx.Variable(jnp.array([True, False]))
        self.count = nnx.Variable(jnp.array(seed + 3, jnp.int32))
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        x = jnp.asarray(x, jnp.bfloat16)
        x = self.layers[0](x) + self.layers[1](x)
        return jnp.where(self.flags[0], self.dropout(x), -x)


@pytest.fixture
def zoo(tmp_path):
    return Zoo(tmp_path / "zoo")


@pytest.fixture(scope="module")
def stored_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    Zoo(folder).store("mlp", model(), **ABOUT, description="A network.\nTwo hidden layers.")
    return folder


@pytest.fixture
def stored(stored_once, tmp_path):
    """A zoo with one model, to be damaged."""
    return Zoo(shutil.copytree(stored_once, tmp_path / "stored")), tmp_path / "stored" / "mlp"


KINDS = {
    "plain": {},
    "no hidden layers": {"units": ()},
    "batch norm": {"batch_norm": True, "batch_norm_momentum": 0.9, "activation": "relu"},
    "dropout": {"dropout_rate": 0.2, "input_dropout_rate": np.zeros((), "float32")},
    "drop connect": {"drop_connect_rate": jnp.array(0.3), "activation": "tanh"},
    "random slopes": {"activation": "rrelu"},
    "trained slopes": {"activation": "prelu", "kernel_init": "glorot_normal"},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_mlp_comes_back_as_it_was(zoo, kind):
    net = model(**kind)
    net(X)  # moves running statistics and streams
    card = zoo.store("net", net, **ABOUT)
    assert card.settings is not None
    loaded = zoo.load("net")
    np.testing.assert_array_equal(loaded(X), outputs(net), strict=True)
    own, back = (nnx.split(each, nnx.RngState, ...)[2] for each in (net, loaded))
    chex.assert_trees_all_equal(nnx.to_pure_dict(back), nnx.to_pure_dict(own))
    filled = zoo.load("net", into=model(seed=1, **kind))
    np.testing.assert_array_equal(filled(X), outputs(net), strict=True)


def test_a_trained_model_comes_back_and_trains_on(zoo):
    y = (X[:, 0] > 0).astype("int32")
    settings = {"train": (X, y), "valid": (X, y), "batch_size": 5, "epochs": 2, "progress": False}
    net = model(batch_norm=True, dropout_rate=0.5)
    trained = training.fit(net, jc.adam(0.01), **settings).model
    zoo.store("net", trained, **ABOUT)
    loaded = zoo.load("net")
    np.testing.assert_array_equal(loaded(X), outputs(trained), strict=True)
    losses = training.fit(loaded, jc.adam(0.01), **settings).history.train_loss
    assert losses.shape == (2,)
    assert np.isfinite(losses).all()


def test_other_modules_are_filled(zoo):
    net = Pair()
    card = zoo.store("pair", net, **ABOUT)
    assert (card.kind, card.settings) == ("Pair", None)
    assert card.arrays["layers/0/kernel"] == "bfloat16[5, 4]"
    assert (card.arrays["flags"], card.arrays["count"]) == ("bool[2]", "int32[]")
    empty = Pair(seed=1)
    before = outputs(empty)
    loaded = zoo.load("pair", into=empty)
    np.testing.assert_array_equal(loaded(X), outputs(net), strict=True)
    assert int(loaded.count[...]) == 3
    np.testing.assert_array_equal(outputs(empty), before)
    with pytest.raises(ValueError, match=r"'pair' has no settings to build a Pair.*`into`"):
        zoo.load("pair")


class Squared(layers.MLP):
    def __call__(self, x):
        return super().__call__(x) ** 2


CHANGED = {
    "activation": (layers.MLP, "activation", lambda: jnp.sign),
    "layer": (
        layers.MLP,
        "hidden2",
        lambda: nnx.Linear(4, 3, precision="highest", rngs=nnx.Rngs(0)),
    ),
    "no bias": (layers.MLP, "logits", lambda: nnx.Linear(3, 3, use_bias=False, rngs=nnx.Rngs(0))),
    "class": (Squared, "depth", lambda: 2),  # as it was
}


@pytest.mark.parametrize(("kind", "name", "part"), CHANGED.values(), ids=CHANGED)
def test_a_changed_mlp_is_never_built_as_if_it_were_not(zoo, kind, name, part):
    def changed():
        net = kind(5, 3, units=(4, 3), rngs=nnx.Rngs(0))
        setattr(net, name, part())
        return net

    net = changed()
    assert zoo.store("net", net, **ABOUT).settings is None
    with pytest.raises(ValueError, match="pass it as `into`"):
        zoo.load("net")
    np.testing.assert_array_equal(zoo.load("net", into=changed())(X), outputs(net))


@pytest.mark.parametrize("dtype", DTYPE_NAMES)
def test_every_dtype_of_safetensors_is_kept(zoo, x64, dtype):
    def net(number):
        one = nnx.Dict()
        one.array = nnx.Param(jnp.full((2, 3), number).astype(dtype))
        return one

    card = zoo.store("net", net(1), **ABOUT)
    assert card.arrays == {"array": f"{dtype}[2, 3]"}
    loaded = zoo.load("net", into=net(0)).array[...]
    assert loaded.dtype == dtype
    np.testing.assert_array_equal(loaded, net(1).array[...])


def test_64_bit_types_are_kept_or_refused(zoo, x64):
    class Wide(nnx.Module):
        def __init__(self, dtype):
            self.kernel = nnx.Param(jnp.linspace(0, 1, 7, dtype=dtype))

    zoo.store("wide", Wide("float64"), **ABOUT)
    assert zoo.load("wide", into=Wide("float64")).kernel[...].dtype == "float64"
    with pytest.raises(ValueError, match=r"card has float64\[7\], the model float32\[7\]"):
        zoo.load("wide", into=Wide("float32"))


def test_other_tools_read_the_files(zoo, tmp_path):
    net = model(dropout_rate=0.2)
    card = zoo.store("net", net, **ABOUT, description="für alle")
    folder = tmp_path / "zoo" / "net"
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "weights.safetensors"]
    arrays = safetensors.numpy.load_file(folder / "weights.safetensors")
    assert sorted(arrays) == sorted(card.arrays)
    np.testing.assert_array_equal(arrays["hidden1/kernel"], net.hidden1.kernel[...])
    np.testing.assert_array_equal(arrays["dropout/rate"], np.float32(0.2))
    fields = json.loads((folder / "card.json").read_text("utf-8"))
    weights = (folder / "weights.safetensors").read_bytes()
    assert fields["sha256"] == hashlib.sha256(weights).hexdigest()
    assert fields["size"] == len(weights)
    assert fields["arrays"]["hidden1/kernel"] == "float32[5, 4]"
    assert fields["settings"]["dropout_rate"] == 0.2
    assert fields["versions"]["jax"] == jax.__version__
    assert fields.keys() == CHECKS.keys()
    assert zoo.card("net") == card


def test_the_zoo_lists_finds_and_shows(zoo):
    assert zoo.list() == zoo.find() == []
    for name, data, accuracy in [("b2", "MNIST 0-4", 0.99), ("b1", "digits", 0.9), ("c", "x", 1)]:
        zoo.store(name, model(), data=data, accuracy=accuracy)
    assert [card.name for card in zoo.list()] == ["b1", "b2", "c"]
    assert [card.name for card in zoo.find("^b")] == ["b2", "b1"]
    assert [card.name for card in zoo.find(data="MNIST|x", min_accuracy=0.995)] == ["c"]
    assert [card.name for card in zoo.find(lambda card: card.accuracy < 0.95)] == ["b1"]
    with pytest.raises(ValueError, match=r"Zoo.find: 'b\[' is not a regular expression"):
        zoo.find("b[")
    with pytest.raises(ValueError, match=r"Zoo.find: min_accuracy must lie in \[0, 1\], got 99"):
        zoo.find(min_accuracy=99)
    table = str(zoo).splitlines()
    assert table[0].split() == ["name", "data", "accuracy", "model", "arrays", "MB", "created"]
    assert table[2].split()[:6] == ["b2", "MNIST", "0-4", "99.00%", "MLP", "6"]
    assert repr(zoo).startswith("Zoo('/")


def test_brackets_in_a_card_are_no_markup(zoo):
    zoo.store("net", model(), data="[bold red]digits[/] [link=x]", accuracy=0.9)
    assert "[bold red]digits[/] [link=x]" in str(zoo)


def test_a_name_that_is_taken_is_refused_unless_it_is_replaced(zoo, tmp_path):
    zoo.store("net", model(0), **ABOUT)
    with pytest.raises(ValueError, match=r"Zoo.store: name must be new, or give replace=True"):
        zoo.store("net", model(1), **ABOUT)
    np.testing.assert_array_equal(zoo.load("net")(X), outputs(model(0)))
    zoo.store("net", model(1), **ABOUT, replace=True)
    np.testing.assert_array_equal(zoo.load("net")(X), outputs(model(1)))
    zoo.store("new", model(2), **ABOUT, replace=True)
    assert sorted(path.name for path in (tmp_path / "zoo").iterdir()) == ["net", "new"]


def test_of_two_writers_of_one_name_one_is_refused(zoo, tmp_path, monkeypatch):
    both_have_checked, write = threading.Barrier(2, timeout=60), _zoo.write

    def late(*args):
        both_have_checked.wait()
        write(*args)

    def store(seed):
        try:
            zoo.store("net", model(seed), **ABOUT)
        except ValueError as error:
            return str(error)
        return ""

    monkeypatch.setattr(_zoo, "write", late)
    with ThreadPoolExecutor(2) as pool:
        errors = list(pool.map(store, (0, 1)))
    assert sorted(errors) == ["", "Zoo.store: name must be new, or give replace=True, got 'net'"]
    np.testing.assert_array_equal(zoo.load("net")(X), outputs(model(errors.index(""))))
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["net"]


@pytest.mark.parametrize("taken_by", ["file", "link"])
def test_whatever_takes_a_name_meanwhile_stays(zoo, tmp_path, monkeypatch, taken_by):
    write, taken = _zoo.write, tmp_path / "zoo" / "net"

    def late(*args):
        taken.parent.mkdir()
        taken.symlink_to(tmp_path) if taken_by == "link" else taken.write_text("no model")
        write(*args)

    monkeypatch.setattr(_zoo, "write", late)
    with pytest.raises(ValueError, match="name must be new, or give replace=True, got 'net'"):
        zoo.store("net", model(), **ABOUT)
    assert taken.is_symlink() or taken.read_text() == "no model"
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["net"]


def test_a_model_is_there_at_every_moment_of_its_replacement(zoo, tmp_path, monkeypatch):
    zoo.store("net", model(0), **ABOUT)
    seen = []

    def watched(method):
        def call(*args, **kwargs):
            seen.append(outputs(zoo.load("net")))
            assert [card.name for card in zoo.list()] == ["net"]
            done = method(*args, **kwargs)
            seen.append(outputs(zoo.load("net")))
            return done

        return call

    # Where there are no locks; where there are, readers wait until it is replaced.
    monkeypatch.setattr(_locks, "fcntl", None)
    monkeypatch.setattr(_zoo_folder.Path, "rename", watched(_zoo_folder.Path.rename))
    zoo.store("net", model(1), **ABOUT, replace=True)
    assert [int(np.array_equal(one, outputs(model(1)))) for one in seen] == [0, 0, 0, 1]


def test_many_replace_and_read_one_model_at_once(zoo, tmp_path, monkeypatch):
    nets, files, write = [model(seed) for seed in range(2)], [], _zoo.write
    expected = [outputs(net) for net in nets]
    monkeypatch.setattr(_zoo, "write", lambda *args: (files.append(args[2]), write(*args)))
    for net in nets:
        zoo.store("net", net, **ABOUT, replace=True)

    def replace(number):
        write(tmp_path / "zoo", "net", files[number % 2], True)

    def read(_):
        assert [card.name for card in zoo.list()] == ["net"]
        got = outputs(zoo.load("net"))
        assert any(np.array_equal(got, wanted) for wanted in expected)

    with ThreadPoolExecutor(8) as pool:
        replaced = [pool.submit(replace, number) for number in range(300)]
        reads = [pool.submit(read, number) for number in range(60)]
        for each in (*replaced, *reads):
            each.result()
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["net"]


def test_a_store_that_breaks_leaves_what_was_there(zoo, tmp_path, monkeypatch):
    class KilledError(BaseException):
        pass

    zoo.store("net", model(0), **ABOUT)
    rename, calls = _zoo_folder.Path.rename, []

    def killed(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise KilledError
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(_zoo_folder.Path, "rename", killed)
        with pytest.raises(KilledError):
            zoo.store("net", model(1), **ABOUT, replace=True)
    np.testing.assert_array_equal(zoo.load("net")(X), outputs(model(0)))
    with pytest.raises(ValueError, match="name must be new"):
        zoo.store("net", model(2), **ABOUT)
    zoo.store("net", model(2), **ABOUT, replace=True)
    np.testing.assert_array_equal(zoo.load("net")(X), outputs(model(2)))
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["net"]


def test_a_full_disk_is_an_error_and_leaves_nothing_of_the_model(zoo, tmp_path):
    zoo.store("net", model(0), **ABOUT)
    message = r"Zoo.store: 'net' could not be written to"
    with no_file_longer_than(1000), pytest.raises(OSError, match=message):
        zoo.store("net", model(1, units=(99,)), **ABOUT, replace=True)
    assert [path.name for path in (tmp_path / "zoo").iterdir()] == ["net"]
    np.testing.assert_array_equal(zoo.load("net")(X), outputs(model(0)))


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../net", "a/b", "/tmp/x", ".hidden", "a\\b", "a\n", "é", "a" * 101, 3]
)
def test_names_are_no_paths(stored, name):
    zoo, _ = stored
    with pytest.raises(ValueError, match=r"Zoo.store: name must be at most 100 letters"):
        zoo.store(name, model(), **ABOUT)
    for function, call in (("load", zoo.load), ("card", zoo.card)):
        message = rf"Zoo.{function}: name must be at most 100 letters"
        with pytest.raises(ValueError, match=message):
            call(name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accuracy": 97.3}, r"Zoo.store: accuracy must lie in \[0, 1\], got 97.3"),
        ({"accuracy": float("nan")}, r"accuracy must lie in \[0, 1\], got nan"),
        ({"data": ""}, "Zoo.store: data must be one line of printable text, got ''"),
        ({"data": "a\x1b[31m"}, "Zoo.store: data must be one line of printable text"),
        ({"data": 3}, "Zoo.store: data must be one line of printable text, got 3"),
        ({"description": "\ud800"}, "Zoo.store: description must be printable text"),
        ({"model": {"w": np.ones(3)}}, "Zoo.store: model must be an nnx.Module"),
    ],
)
def test_bad_arguments_of_store(zoo, tmp_path, changes, message):
    net = changes.pop("model", model())
    with pytest.raises(ValueError, match=message):
        zoo.store("net", net, **(ABOUT | changes))
    assert not (tmp_path / "zoo").exists()


def test_what_no_card_can_hold_is_refused_at_once(zoo, tmp_path):
    class Odd(nnx.Module):
        def __init__(self, array):
            self.w = nnx.Param(array)

    with pytest.raises(ValueError, match="the array 'w' must have a dtype of safetensors"):
        zoo.store("net", Odd(jnp.zeros(3, jnp.int4)), **ABOUT)
    long = Odd(jnp.zeros(3))
    setattr(long, "w" * 600, nnx.Param(jnp.zeros(3)))
    message = "this model cannot be described on a card: arrays must map paths"
    with pytest.raises(ValueError, match=message):
        zoo.store("net", long, **ABOUT)
    assert not (tmp_path / "zoo").exists()


def test_bad_arguments_of_the_zoo_and_of_load(stored, tmp_path):
    zoo, folder = stored
    with pytest.raises(ValueError, match="Zoo: directory must be a folder, got"):
        Zoo(folder / "card.json")
    with pytest.raises(ValueError, match="Zoo: max_bytes must be a whole number >= 1, got 0"):
        Zoo(tmp_path, max_bytes=0)
    with pytest.raises(ValueError, match=r"no model 'cnn' in /.*; the models are\n  mlp"):
        zoo.load("cnn")
    with pytest.raises(ValueError, match=r"Zoo.load: into must be an nnx.Module"):
        zoo.load("mlp", into={"w": 3})
    with pytest.raises(ValueError, match=r"bytes, at most 100 are allowed"):
        Zoo(folder.parent, max_bytes=100).load("mlp")
    with pytest.raises(ValueError, match=r"(?s)hidden2/bias: the card has float32\[3\], the model"):
        zoo.load("mlp", into=model(units=(4, 7)))


def test_safetensors_may_be_missing(zoo, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    message = r"Zoo.store: needs safetensors: pip install 'jaxopt_cards\[transfer\]'"
    with pytest.raises(ImportError, match=message):
        zoo.store("net", model(), **ABOUT)


def edit(folder, **changes):
    """Changes fields of a card; `None` takes one out."""
    file = folder / "card.json"
    fields = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({name: value for name, value in fields.items() if value != ()}))


def edit_settings(folder, **changes):
    edit(folder, settings=json.loads((folder / "card.json").read_text())["settings"] | changes)


def rewrite(folder, arrays):
    """Other weights, of which the card tells the right size and sum."""
    contents = arrays if isinstance(arrays, bytes) else safetensors.numpy.save(arrays)
    (folder / "weights.safetensors").write_bytes(contents)
    edit(folder, size=len(contents), sha256=hashlib.sha256(contents).hexdigest())


def arrays_in(folder):
    return dict(safetensors.numpy.load_file(folder / "weights.safetensors"))


def with_header(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def truncate(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lengthen(file):
    file.write_bytes(file.read_bytes() + b"\0")


def link(file):
    moved = file.rename(file.parent.parent / file.name)
    file.symlink_to(moved)


def swap(folder, path, array):
    rewrite(folder, arrays_in(folder) | {path: array})


def drop(folder, path):
    rewrite(folder, {name: array for name, array in arrays_in(folder).items() if name != path})


WEIGHTS, CARD = "weights.safetensors", "card.json"
F32 = {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}
HOSTILE = {
    "card of lists": (
        lambda f: (f / "card.json").write_bytes(b"[" + b"[]," * 10**6 + b"[]]"),
        "card.json is not a valid card: it has JSON of more than",
    ),
    "weights truncated": (lambda f: truncate(f / WEIGHTS), "weights.*expected .* bytes with the"),
    "weights longer": (lambda f: lengthen(f / WEIGHTS), "weights.*expected .* bytes with the"),
    "weights missing": (lambda f: (f / WEIGHTS).unlink(), "weights.* there is no such file"),
    "weights a link": (lambda f: link(f / WEIGHTS), "weights.* it is not a regular file; links"),
    "weights a pipe": (
        lambda f: ((f / WEIGHTS).unlink(), os.mkfifo(f / WEIGHTS)),
        "weights.* it is not a regular file",
    ),
    "no weights": (lambda f: rewrite(f, b"\0" * 8), "weights.* not a whole safetensors file"),
    "a huge header": (
        lambda f: rewrite(f, b"\xff" * 16),
        "weights.* more than any card can describe",
    ),
    "a huge array": (lambda f: rewrite(f, with_header({"w": F32}, b"1234")), "weights.* not a wh"),
    "a deep header": (lambda f: rewrite(f, with_header(b"[" * 9999)), "weights.* not a whole saf"),
    "an odd dtype": (
        lambda f: rewrite(f, with_header({"w": F32 | {"dtype": "F8_E8M0", "shape": [4]}}, b"1234")),
        "weights.* it has 'w' of dtype F8_E8M0, which NumPy does not have",
    ),
    "escapes in a path": (
        lambda f: swap(f, "\x1b[31m", np.zeros(3)),
        r"be a path, got '\\x1b\[31m'",
    ),
    "another shape": (
        lambda f: swap(f, "logits/bias", np.zeros(4, "f4")),
        r"logits/bias: the weights file has float32\[4\], the card float32\[3\]",
    ),
    "another dtype": (lambda f: swap(f, "logits/bias", np.zeros(3)), r"has float64\[3\], the card"),
    "one array more": (lambda f: swap(f, "more", np.zeros(3)), "more: the .* the card None"),
    "one array less": (lambda f: drop(f, "logits/bias"), "logits/bias: the weights file has No"),
    "another sum": (lambda f: edit(f, sha256="0" * 64), "weights.*expected .* with the SHA-256 00"),
    "a link to a sum": (lambda f: edit(f, sha256="../" * 21 + "x"), "sha256 must be 64 hexadec"),
    "card missing": (
        lambda f: (f / CARD).unlink(),
        "card.json is not a valid card: there is no such file",
    ),
    "card a link": (
        lambda f: link(f / CARD),
        "card.json is not a valid card: it is not a regular file",
    ),
    "card truncated": (
        lambda f: truncate(f / CARD),
        "card.json is not a valid card: Expecting|Unterminat",
    ),
    "card not text": (
        lambda f: (f / CARD).write_bytes(b"\xff\xfe\xfd"),
        "card.json is not a valid card",
    ),
    "card too large": (
        lambda f: (f / CARD).write_bytes(b" " * 2**24),
        "card.json is not a valid card: it",
    ),
    "card too deep": (lambda f: (f / CARD).write_text("[" * 9**5), "it has JSON that would take"),
    "card of a list": (lambda f: (f / CARD).write_text("[1]"), r"it must be an object, got \[1\]"),
    "card with a key twice": (lambda f: (f / CARD).write_text('{"a": 1, "a": 2}'), "a key twice"),
    "card with NaN": (
        lambda f: edit(f, accuracy=float("nan")),
        "it has NaN, which is not valid JSON",
    ),
    "card with a long number": (
        lambda f: (f / CARD).write_text("9" * 9999),
        "card.json is not a valid card: Exceeds the limit",
    ),
    "unknown field": (lambda f: edit(f, command="rm"), r"missing or unknown: \['command'\]"),
    "missing field": (lambda f: edit(f, data=()), r"missing or unknown: \['data'\]"),
    "another format": (
        lambda f: edit(f, format=2),
        "format must be 1; others need a newer jaxopt_cards",
    ),
    "format true": (lambda f: edit(f, format=True), "format must be 1"),
    "accuracy as text": (lambda f: edit(f, accuracy="0.9"), r"accuracy must be a number in \[0, 1"),
    "escapes": (lambda f: edit(f, data="\x1b]0;x\x07"), "data must be one line of printable text"),
    "no date": (lambda f: edit(f, created="yesterday"), "created must be a date in ISO 8601"),
    "date a number": (lambda f: edit(f, created=3), "created must be a date in ISO 8601"),
    "size less": (lambda f: edit(f, size=-1), "size must be a number of bytes, got -1"),
    "size huge": (lambda f: edit(f, size=10**400), "size must be a number of bytes, got 1000"),
    "arrays a list": (lambda f: edit(f, arrays=["w"]), "arrays must map paths to dtypes"),
    "an object": (lambda f: edit(f, arrays={"w": "object[3]"}), "arrays must map paths to dtypes"),
    "shape huge": (lambda f: edit(f, arrays={"w": f"int8[{'9' * 99}]"}), "arrays must map paths"),
    "versions deep": (lambda f: edit(f, versions={"a": {"b": 1}}), "versions must map names"),
    "settings a list": (lambda f: edit(f, settings=[]), "settings must be null or have the argu"),
    "settings more": (lambda f: edit_settings(f, rngs=3), "settings must be null or have the arg"),
    "widths huge": (lambda f: edit_settings(f, units=[2**30] * 9), r"need hidden1/kernel: float32"),
    "many widths": (lambda f: edit_settings(f, units=[1] * 99**3), "it has JSON that would take"),
    "widths text": (lambda f: edit_settings(f, units="44"), "settings must be null or have the"),
    "rate one": (lambda f: edit_settings(f, dropout_rate=1), "settings must be null or have the"),
    "rate more": (lambda f: edit_settings(f, dropout_rate=0.1), "dropout/rate: the card has None"),
    "activation": (lambda f: edit_settings(f, activation="eval"), "activation must be a func"),
    "norms": (lambda f: edit_settings(f, batch_norm=True), "hidden1_norm/mean: the card has None"),
}


@pytest.mark.parametrize(("damage", "message"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_damaged_or_hostile_is_a_clear_error(stored, damage, message):
    zoo, folder = stored
    damage(folder)
    with pytest.raises(ValueError, match=rf"(?s)^Zoo\.(load|card): {folder}/.*({message})"):
        zoo.load("mlp")


def test_damaged_cards_are_named_and_left_out_of_the_list(stored):
    zoo, folder = stored
    zoo.store("good", model(), **ABOUT)
    (folder.parent / "note.txt").write_text("no model")
    truncate(folder / "card.json")
    with pytest.warns(RuntimeWarning, match=r"Zoo.list: left out .*\n  .*mlp/card.json"):
        assert [card.name for card in zoo.list()] == ["good"]


def test_a_folder_that_is_a_link_is_refused(stored, tmp_path):
    zoo, folder = stored
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="mlp is a link; links are not followed"):
        zoo.load("mlp")


@pytest.mark.parametrize("replace", [False, True])
def test_what_is_no_model_is_never_replaced(stored, replace):
    zoo, folder = stored
    (folder.parent / "note").write_text("no model")
    (folder.parent / "link").symlink_to(folder)
    for name in ("note", "link"):
        with pytest.raises(ValueError, match=r"Zoo.store: (name must be new|no model|.*is a link)"):
            zoo.store(name, model(), **ABOUT, replace=replace)
    assert (folder.parent / "note").read_text() == "no model"
    assert (folder.parent / "link").is_symlink()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("dropout/rate", -3.0, r"dropout/rate must lie in \[0, 1\), got -3.0"),
        ("dropout/rate", np.nan, r"dropout/rate must lie in \[0, 1\), got nan"),
        ("dropout/rate", 1.0, r"dropout/rate must lie in \[0, 1\), got 1.0"),
        ("dropout/rate", 0.5, "its settings have 0.2.* for dropout/rate, which is 0.5"),
        ("hidden1_norm/var", -1e-3, r"hidden1_norm/var must lie in \[0, inf\), got -0.001"),
        ("hidden1_norm/var", np.inf, r"hidden1_norm/var must lie in \[0, inf\), got inf"),
    ],
)
def test_weights_that_their_layers_deny_are_refused(zoo, tmp_path, path, value, message):
    zoo.store("net", model(dropout_rate=0.2, batch_norm=True), **ABOUT)
    file = tmp_path / "zoo" / "net" / "weights.safetensors"
    array = safetensors.numpy.load_file(file)[path]
    swap(file.parent, path, np.full_like(array, value))
    with pytest.raises(ValueError, match=rf"Zoo.load: .*card.json does not fit: {message}"):
        zoo.load("net")
    other = model(1, dropout_rate=0.3, batch_norm=True)
    if value == 0.5:
        assert zoo.load("net", into=other).dropout.rate[...] == 0.5
    else:
        with pytest.raises(ValueError, match=message):
            zoo.load("net", into=other)


def test_what_could_not_be_loaded_is_not_stored(zoo):
    net = model(dropout_rate=0.2)
    net.dropout.rate[...] = jnp.asarray(1.5)
    with pytest.raises(
        ValueError, match=r"Zoo.store: .*cannot be stored: .*rate must lie in \[0, 1\)"
    ):
        zoo.store("net", net, **ABOUT)


def test_a_small_model_takes_little_memory_whatever_is_allowed(stored):
    tracemalloc.start()
    try:
        stored[0].load("mlp")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**26  # of 8 GiB that max_bytes allows


def test_any_flipped_bit_of_the_weights_is_found(stored):
    zoo, folder = stored
    content, rng = (folder / WEIGHTS).read_bytes(), random.Random(0)
    for _ in range(30):
        flipped = bytearray(content)
        flipped[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        (folder / WEIGHTS).write_bytes(flipped)
        with pytest.raises(ValueError, match=r"cannot be used: expected .* bytes with the SHA-256"):
            zoo.load("mlp")


QUIET = settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@QUIET
@given(field=st.sampled_from(sorted(CHECKS)), value=JSON)
def test_any_value_of_any_field_is_taken_or_refused(stored_once, field, value):
    fields = json.loads((stored_once / "mlp" / CARD).read_text()) | {field: value}
    try:
        card = card_from(json.dumps(fields).encode(), "mlp")
    except ValueError:
        return
    assert json.loads(card.to_json()) == fields


@QUIET
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_any_byte_of_a_card_may_be_wrong(stored, place, byte):
    zoo, folder = stored
    content = bytearray((folder / CARD).read_bytes())
    (folder / CARD).write_bytes(content[: place % len(content)] + bytes([byte]))
    with pytest.raises(ValueError, match=r"card.json is not a valid card"):
        zoo.load("mlp")
    changed = bytearray(content)
    changed[place % len(content)] = byte
    (folder / CARD).write_bytes(changed)
    try:
        loaded = zoo.load("mlp")
    except ValueError:
        pass
    else:
        own = nnx.to_pure_dict(nnx.state(model(), nnx.Param))
        chex.assert_trees_all_equal(nnx.to_pure_dict(nnx.state(loaded, nnx.Param)), own)
    (folder / CARD).write_bytes(content)


@QUIET
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_weights_of_a_stranger_are_loaded_or_refused(stored, place, byte, cut):
    zoo, folder = stored
    saved = {name: (folder / name).read_bytes() for name in (CARD, WEIGHTS)}
    # Mostly in the header, where a change is more than another weight.
    content = bytearray(saved[WEIGHTS])
    place %= 8 + struct.unpack("<Q", content[:8])[0]
    content[place] = byte
    rewrite(folder, bytes(content[: place + 1] if cut else content))
    try:
        assert zoo.load("mlp")(X).shape == (20, 3)
    except ValueError as error:
        if str(folder) not in str(error):
            raise
    finally:
        for name, contents in saved.items():
            (folder / name).write_bytes(contents)


def test_restore_takes_parts_of_a_model_of_the_zoo(stored):
    zoo, _ = stored
    net, report = transfer.restore(model(1, units=(4, 9)), zoo.load("mlp"), "hidden1")
    assert list(report.taken) == ["hidden1/bias", "hidden1/kernel"]
    np.testing.assert_array_equal(net.hidden1.kernel[...], model().hidden1.kernel[...])
