"""Files of other libraries: read to the last bit, refused by name, and never run."""

import collections
import io
import json
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import jax
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from jaxopt_cards import transfer
from jaxopt_cards.transfer.files import apart as _apart
from jaxopt_cards.transfer.files import hdf5 as _hdf5

FOREIGN = Path(__file__).parent / "foreign"
READERS = {
    "outputs.npz": transfer.from_numpy,
    "torch.safetensors": transfer.from_safetensors,
    "torch.pt": transfer.from_torch,
    "torch_odd.pt": transfer.from_torch,
    "keras.keras": transfer.from_keras,
    "keras.weights.h5": transfer.from_keras,
    "keras_conv_legacy.h5": transfer.from_keras,
}
PROCESS = Path(_hdf5.__file__).with_name("hdf5_process.py")
# The same damage each time: what the HDF5 library does of other damage is not for these tests.
FUZZ = settings(max_examples=150, deadline=None, derandomize=True)
FEWER = settings(FUZZ, max_examples=12)  # where each is a process
OUTPUTS = np.load(FOREIGN / "outputs.npz")


class Images(nnx.Module):
    def __init__(self, norm=False):
        rngs = nnx.Rngs(0)
        self.conv = nnx.Conv(1, 4, (3, 2), padding="VALID", rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_scale=False, rngs=rngs) if norm else None
        self.logits = nnx.Linear(4, 10, rngs=rngs)

    def __call__(self, x):
        x = jax.nn.relu(self.conv(x.reshape(-1, 8, 8, 1)))
        x = x if self.norm is None else self.norm(x, use_running_average=True)
        return self.logits(x.mean((1, 2)))


def checkpoint(path, content, root="net", **more):
    """An archive as torch.save makes it, around any pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", content)
        for name, data in more.items():
            archive.writestr(f"{root}/{name.replace('data', 'data/')}", data)
    return path


# Values whose pickles have what torch.save writes, but for the name of the module.
class FloatStorage:
    pass


def _rebuild_tensor_v2(*_):
    pass


class Stored(collections.UserList):
    """Stands for a storage: (type, key, size)."""


class Described:
    def __init__(self, *arguments):
        self.arguments = arguments

    def __reduce__(self):
        return _rebuild_tensor_v2, self.arguments


class Pickler(pickle._Pickler):  # the one in Python, whose globals can be given other names
    def persistent_id(self, value):
        if isinstance(value, Stored):
            return ("storage", FloatStorage, value[0], "cpu", value[1])
        return None

    def save_global(self, value, name=None):
        module = {FloatStorage: "torch", _rebuild_tensor_v2: "torch._utils"}[value]
        self.write(f"c{module}\n{value.__name__}\n".encode())
        self.memoize(value)

    dispatch = pickle._Pickler.dispatch | {type: save_global, type(checkpoint): save_global}


def pickled(value):
    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


def tensor(offset, shape, strides, *metadata, key="0", size=6):
    return Described(Stored([key, size]), offset, shape, strides, False, None, *metadata)


def doubled(levels):
    """Two tuples of two tuples of two: little to write, endless to print or to compare."""
    value = ()
    for _ in range(levels):
        value = (value, value)
    return value


SIX = np.arange(6, dtype="float32").tobytes()


def test_convolutions_of_torch():
    model, report = transfer.restore(Images(), FOREIGN / "torch_conv.pt")
    assert len(report.taken) == 4
    np.testing.assert_allclose(model(OUTPUTS["x"]), OUTPUTS["torch_conv"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["keras_conv.keras", "keras_conv_legacy.h5"])
def test_convolutions_of_keras_and_a_normalisation_without_scale(name):
    rename = {"^logits": "top/logits"}
    model, report = transfer.restore(Images(norm=True), FOREIGN / name, rename=rename)
    assert len(report.taken) == 7
    np.testing.assert_allclose(model(OUTPUTS["x"]), OUTPUTS["keras_conv"], rtol=1e-5, atol=1e-5)


def test_numbers_without_names_are_refused_where_they_could_be_either():
    with pytest.raises(ValueError, match=r"3 arrays in 'norm', which may be any of scale, bias"):
        transfer.from_keras(FOREIGN / "keras_conv.weights.h5")


def test_views_and_dtypes_of_torch():
    found = transfer.from_torch(FOREIGN / "torch_odd.pt")
    base = np.arange(24, dtype="float32").reshape(4, 6)
    expected = {
        "transposed": base.T,
        "sliced": base[1:, ::2],
        "shared": base[1],
        "parameter": np.ones(2, "float32"),
        "bfloat16": np.array([1.5, -2, np.nan], ml_dtypes.bfloat16),
        "float16": np.array([0.5], "float16"),
        "int64": np.array(7),
        "bool": np.array([True, False]),
        "complex": np.array([1 + 2j], "complex64"),
        "empty": np.zeros((0, 3), "float32"),
        "embed": {"embedding": np.arange(6, dtype="float32").reshape(3, 2)},
    }
    for (path, theirs), ours in zip(
        jax.tree.leaves_with_path(expected), jax.tree.leaves(found), strict=True
    ):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), path
        assert ours.tobytes() == theirs.tobytes(), path
    with pytest.raises(KeyError):
        transfer.from_torch(FOREIGN / "torch_odd.pt", embeddings="^$")["embed"]["embedding"]


def test_dtypes_that_torch_had_late():
    found = transfer.from_torch(FOREIGN / "torch_young.pt")
    assert [a.dtype for a in found.values()] == [np.uint16, ml_dtypes.float8_e4m3fn]
    np.testing.assert_array_equal(found["uint16"], [1, 65535])
    np.testing.assert_array_equal(found["float8"].astype("float32"), [0.5, -1])


def test_all_ways_of_the_same_network_agree():
    from_file = transfer.from_torch(FOREIGN / "torch.pt")
    safe = transfer.from_safetensors(FOREIGN / "torch.safetensors", convention="torch")
    wrapped = transfer.from_torch(FOREIGN / "torch_checkpoint.pt")["state_dict"]
    told = transfer.from_safetensors(FOREIGN / "torch.safetensors")
    raw = transfer.from_safetensors(FOREIGN / "torch.safetensors", convention="flax")
    flat = nnx.traversals.flatten_mapping(raw, sep=".")
    for other in (safe, told, wrapped, transfer.from_torch(flat)):
        jax.tree.map(np.testing.assert_array_equal, other, from_file)
    np.testing.assert_array_equal(raw["hidden1"]["weight"].T, from_file["hidden1"]["kernel"])


def test_tensors_in_memory():
    class BFloat16:
        """What PyTorch's tensors do."""

        dtype, shape = "torch.bfloat16", (2,)
        detach = cpu = lambda self: self

        def float(self):
            self.dtype = "torch.float32"
            return self

        def numpy(self):
            if self.dtype == "torch.bfloat16":
                raise TypeError("Got unsupported ScalarType BFloat16")
            return np.array([1.5, -3.0], "float32")

    found = transfer.from_torch({"norm.weight": BFloat16()})["norm"]["scale"]
    assert found.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.astype("float32"), [1.5, -3])
    for other in ("text", 3, None, [1.0]):
        assert list(transfer.from_torch({"a": other, "net": {"b": np.ones(1)}})) == ["net"]
        with pytest.raises(ValueError, match=r"from_torch: the state_dict holds no arrays"):
            transfer.from_torch({"a": other})
    for bad in (np.array(["text"]), np.array([None])):
        with pytest.raises(ValueError, match=r"from_torch: the state_dict has 'a', which is no"):
            transfer.from_torch({"a": bad})
    with pytest.raises(ValueError, match=r"from_torch: the state_dict holds no arrays"):
        transfer.from_torch({})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch_module.pt", r"asks for __main__\.Net, which no state_dict needs: save one with"),
        ("torch_script.pt", r"is TorchScript, a program; save it again with torch\.save"),
        ("outputs.npz", r"is a zip archive that torch\.save did not write"),
        ("keras.weights.h5", r"is not what torch\.save writes, but an HDF5 file"),
    ],
)
def test_what_is_no_state_dict_is_refused_with_what_to_do(name, message):
    with pytest.raises(ValueError, match=rf"from_torch: .*{name} {message}"):
        transfer.from_torch(FOREIGN / name)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_is_ever_run(tmp_path, protocol):
    trap, canary = tmp_path / "trap", tmp_path / "canary"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (canary,)

    content = pickle.dumps({"kernel": Bomb()}, protocol=protocol)
    np.savez(trap, kernel=np.array([Bomb()], dtype=object))
    (tmp_path / "trap.pkl").write_bytes(content)
    files = [tmp_path / "trap.npz", tmp_path / "trap.pkl", checkpoint(tmp_path / "t.pt", content)]
    for path in files:
        for reader in {*READERS.values()}:
            with pytest.raises(ValueError, match=path.name):
                reader(path)
        with pytest.raises(ValueError, match=path.name):
            transfer.restore({"kernel": np.zeros(1)}, path)
    assert not canary.exists()
    pickle.loads(content)  # the trap works
    assert canary.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cos\nsystem\n(X\x02\x00\x00\x00lstR.", r"asks for os\.system, which no state_dict"),
        (b"\x80\x02cbuiltins\neval\n.", r"asks for builtins\.eval"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", r"asks for os\.system"),
        (b"(S'ls'\nios\nsystem\n.", r"asks for os\.system"),
        (b"}q\x00X\x01\x00\x00\x00ah\x00s.", "has dictionaries that never end"),
        (b"}((K\x01tK\x02s.", r"a key in data\.pkl that is neither text|is damaged"),
        (b"}(X\x01\x00\x00\x00aK\x01X\x01\x00\x00\x00aK\x02u.", r"has 'a' twice"),
        (b"K\x01.", r"is not a dictionary of tensors, but a int"),
        (b"ctorch\nFloatStorage\n)R.", r"asks to call torch\.FloatStorage"),
        (b"", r"is cut short"),
        (b".", r"is damaged"),
        (b"}", r"is cut short"),
        (b"h\x07.", r"is damaged"),
        (b"K\x01(K\x02tt.", r"is damaged"),
    ],
)
def test_programs_that_torch_would_not_write(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"from_torch: .*net\.pt .*({message})"):
        transfer.from_torch(checkpoint(tmp_path / "net.pt", content))


def test_dictionaries_that_multiply_end(tmp_path):
    tree = {"kernel": 1}
    for _ in range(50):
        tree = {"a": tree, "b": tree}
    with pytest.raises(ValueError, match="has dictionaries that never end"):
        transfer.from_torch(checkpoint(tmp_path / "net.pt", pickle.dumps(tree, protocol=2)))


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-1, 7),
    st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 4)), max_size=3),
)
def test_tensors_lie_in_their_storage_or_are_refused(tmp_path_factory, offset, axes):
    shape, strides = tuple(n for n, _ in axes), tuple(s for _, s in axes)
    path = tmp_path_factory.mktemp("views") / "net.pt"
    checkpoint(path, pickled({"kernel": tensor(offset, shape, strides)}), data0=SIX)
    places = [offset + np.dot(index, strides) for index in np.ndindex(shape)]
    if min((offset, *strides)) < 0 or max(places, default=0) > 5:
        with pytest.raises(ValueError, match="is damaged"):
            transfer.from_torch(path)
    else:
        found = transfer.from_torch(path)["kernel"]
        assert found.shape == shape
        np.testing.assert_array_equal(found.reshape(-1), np.array(places, "float32"))


@pytest.mark.parametrize(
    ("value", "files", "message"),
    [
        (tensor(0, (6,), (1,)), {}, "there is no 'data/0'"),
        (tensor(0, (6,), (1,)), {"data0": SIX[:-1]}, "'net/data/0' should have 6 numbers"),
        (tensor(0, (6,), (1, 1)), {"data0": SIX}, "with more or fewer strides than axes"),
        (tensor(0, (True,), (1,)), {"data0": SIX}, "sizes that are not whole numbers"),
        (tensor(0, doubled(60), (1, 1)), {"data0": SIX}, "sizes that are not whole numbers"),
        (tensor(doubled(60), (6,), (1,)), {"data0": SIX}, "strides that are not whole numbers"),
        (tensor(0, (6,), (1,), key=doubled(60)), {"data0": SIX}, "an invalid reference"),
        (tensor(0, (2.0,), (1,)), {"data0": SIX}, "sizes that are not whole numbers"),
        (tensor(0, (6,), (1,), key="../../x"), {"data0": SIX}, "there is no 'data/../../x'"),
        (tensor(0, (2**40,), (0,)), {"data0": SIX}, "would take .* bytes, and max_bytes is"),
        (tensor(0, (0, 2**62), (1, 1)), {"data0": SIX}, "damaged"),
        (tensor(0, (6,), (1,)), {"data0": SIX, "byteorder": b"big"}, "another byte order"),
        (tensor(0, (6,), (1,), {"conj": True}), {"data0": SIX}, "has a tensor with conj, which"),
        (tensor(0, (6,), (1,), {"neg": True}), {"data0": SIX}, "with neg, .*save tensor.resolve"),
        (tensor(0, (6,), (1,), doubled(60)), {"data0": SIX}, "has a tensor with metadata, which"),
    ],
)
def test_tensors_that_torch_would_not_write(tmp_path, value, files, message):
    path = checkpoint(tmp_path / "net.pt", pickled({"kernel": value}), **files)
    with pytest.raises(ValueError, match=rf"from_torch: .*net\.pt .*{message}"):
        transfer.from_torch(path)


def test_a_tensor_with_empty_metadata_is_read(tmp_path):
    path = checkpoint(tmp_path / "net.pt", pickled({"a": tensor(0, (6,), (1,), {})}), data0=SIX)
    np.testing.assert_array_equal(transfer.from_torch(path)["a"], np.arange(6))


def test_a_dense_layer_on_a_flattened_convolution_is_put_in_order():
    images = np.random.default_rng(0).normal(size=(2, 8, 5, 5))
    weight = np.random.default_rng(1).normal(size=(3, 8 * 5 * 5))
    saved = transfer.from_torch({"fc.weight": weight})
    # As in the docstring.
    kernel = saved["fc"]["kernel"].reshape(8, 5, 5, -1)
    saved["fc"]["kernel"] = kernel.transpose(1, 2, 0, 3).reshape(8 * 5 * 5, -1)
    flat = images.transpose(0, 2, 3, 1).reshape(2, -1)
    np.testing.assert_allclose(flat @ saved["fc"]["kernel"], images.reshape(2, -1) @ weight.T)
    assert "kernel.transpose(1, 2, 0, 3).reshape(8 * 5 * 5, -1)" in transfer.from_torch.__doc__


def test_compressed_and_oversized_archives(tmp_path):
    path = tmp_path / "net.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", pickled({"kernel": tensor(0, (6,), (1,))}))
        archive.writestr("net/data/0", SIX)
    np.testing.assert_array_equal(transfer.from_torch(path)["kernel"], np.arange(6))
    np.savez_compressed(tmp_path / "bomb.npz", kernel=np.zeros(10**6))
    with pytest.raises(ValueError, match=r"from_numpy: .*would take 8000128 bytes, and max_bytes"):
        transfer.from_numpy(tmp_path / "bomb.npz", max_bytes=10**6)
    with h5py.File(tmp_path / "bomb.h5", "w") as file:
        shape = (2**20, 2**20)
        file.create_dataset("layers/dense/vars/0", shape, "f4", chunks=(64, 64))
    with pytest.raises(ValueError, match=r"from_keras: .*would take 4398046511104 bytes"):
        transfer.from_keras(tmp_path / "bomb.h5")
    with pytest.raises(ValueError, match=r"would take \d+ bytes, and max_bytes is 100"):
        transfer.from_safetensors(FOREIGN / "torch.safetensors", max_bytes=100)
    with pytest.raises(ValueError, match="max_bytes must be a whole number >= 1, got 0"):
        transfer.from_keras(FOREIGN / "keras.keras", max_bytes=0)


def npy(header, data=b""):
    text = repr(header).encode() if isinstance(header, dict) else header
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def header(descr="<f4", shape=(2,), order=False):
    return {"descr": descr, "fortran_order": order, "shape": shape}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a.npy": npy(header(), b"1234567")}, r"whose header says float32\[2\] in \d+ bytes"),
        ({"a.npy": npy(header(), b"123456789")}, "whose header says"),
        ({"a.npy": npy(header(shape=(2**62, 4)))}, "is damaged: an array of shape"),
        ({"a.npy": npy(header(shape=(-1, -1)), b"1234")}, "has a header that NumPy does not"),
        ({"a.npy": npy(header("<U2", (1,)), b"12345678")}, "of dtype <U2, which is not a number"),
        ({"a.npy": npy(header("V3", (1,)), b"123")}, "of dtype V3, which is not a number"),
        ({"a.npy": npy(header("|O"))}, "has a pickle in 'a.npy', which is not opened"),
        ({"a.npy": npy(b"-" * 9000 + b"1")}, "is damaged"),
        ({"a.npy": b"\x93NUMPY\x04\x00"}, r"in the format \(4, 0\)"),
        ({"a.npy": b""}, "is damaged"),
        ({"a.txt": b"1"}, "has the entry 'a.txt', which is not an array"),
        ({"../a.npy": b""}, "which is encrypted or leads elsewhere"),
        ({"/a.npy": b""}, "which is encrypted or leads elsewhere"),
        ({"a\n.npy": b""}, "which is encrypted or leads elsewhere"),
        ({"a.npy": npy(header(), b"1" * 8), "a/b.npy": npy(header(), b"1" * 8)}, "inside what is"),
        ({"a/b.npy": npy(header(), b"1" * 8), "a.b.npy": npy(header(), b"1" * 8)}, "'a/b' twice"),
        ({"a/" * 99 + "b.npy": npy(header(), b"1" * 8)}, "has a name of 100 parts"),
        ({}, "holds no arrays"),
    ],
)
def test_npz_that_numpy_would_not_write(tmp_path, entries, message):
    with zipfile.ZipFile(tmp_path / "net.npz", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=rf"(?s)from_numpy: .*net\.npz .*{message}"):
        transfer.from_numpy(tmp_path / "net.npz")


def test_two_entries_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.npz", "w") as archive:
        archive.writestr("a.npy", npy(header(), b"1" * 8))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", npy(header(), b"2" * 8))
    with pytest.raises(ValueError, match="has two entries of one name"):
        transfer.from_numpy(tmp_path / "net.npz")


def test_single_arrays_are_refused(tmp_path):
    np.save(tmp_path / "net.npy", np.ones(2))
    with pytest.raises(
        ValueError, match=r"not a zip archive, but a single array \(.npy\), which has"
    ):
        transfer.from_numpy(tmp_path / "net.npy")
    with pytest.raises(ValueError, match=r"from_numpy: .* is not a file"):
        transfer.from_numpy(tmp_path)
    with pytest.raises(ValueError, match=r'convention must be "flax" or "torch", got \'keras\''):
        transfer.from_numpy(tmp_path / "net.npy", convention="keras")


NUMBERS = st.one_of(
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(sizes=(16, 32, 64), endianness="?"),
    st.just(np.dtype(bool)),
    st.just(np.dtype(ml_dtypes.bfloat16)),
)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(["npz", "safetensors"]), st.booleans())
@example(data=None, kind="npz", is_fortran=True)
def test_arrays_come_back_to_the_bit(tmp_path_factory, data, kind, is_fortran):
    array = np.ones((2, 3))
    if data is not None:
        shape = data.draw(hnp.array_shapes(min_dims=0, min_side=0, max_side=4))
        dtype = data.draw(NUMBERS)
        count = int(np.prod(shape)) * dtype.itemsize
        raw = data.draw(st.binary(min_size=count, max_size=count))
        array = np.frombuffer(raw, dtype).reshape(shape)
    array = np.asarray(array, order="F" if is_fortran else "C")
    path = tmp_path_factory.mktemp("arrays") / f"net.{kind}"
    if kind == "npz":
        np.savez(path, **{"hidden1/kernel": array})
        found = transfer.from_numpy(path)
    else:
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="))).reshape(
            array.shape
        )
        save_file({"hidden1.kernel": array}, path)
        found = transfer.from_safetensors(path)
    found = found["hidden1"]["kernel"]
    assert (found.shape, found.dtype) == (array.shape, array.dtype.newbyteorder("="))
    assert found.dtype.isnative
    assert found.tobytes() == array.astype(found.dtype).tobytes()


def safetensors(header, data=b""):
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text)) + text.encode() + data


FLOAT = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (safetensors("{" + FLOAT + "}", b"123"), "is damaged"),
        (safetensors("{" + FLOAT + "}", b"12345"), "is damaged"),
        (safetensors("{" + FLOAT + "," + FLOAT + "}", b"1234"), "has a name twice in its JSON"),
        (safetensors("{" + FLOAT.replace("F32", "F7") + "}", b"1234"), "is damaged"),
        (safetensors("{" + FLOAT.replace("[1]", "[9223372036854775807]") + "}"), "is damaged"),
        (safetensors('{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}', b"1"), "dtype F4"),
        (safetensors("{" + '"a":{' * 9000), "is damaged"),
        (struct.pack("<Q", 2**62) + b"{}", "is cut short, or damaged"),
        (safetensors("{}"), "holds no arrays"),
        (b"", "is not a safetensors file, but something else"),
    ],
)
def test_safetensors_that_the_library_would_not_write(tmp_path, content, message):
    (tmp_path / "net.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=rf"from_safetensors: .*net\.safetensors .*{message}"):
        transfer.from_safetensors(tmp_path / "net.safetensors")


def test_safetensors_say_that_torch_wrote_them(tmp_path):
    arrays = {"a.weight": np.ones((2, 3), "float32")}
    save_file(arrays, tmp_path / "net.safetensors", metadata={"format": "pt"})
    assert transfer.from_safetensors(tmp_path / "net.safetensors")["a"]["kernel"].shape == (3, 2)


@pytest.mark.parametrize(
    ("name", "is_torch"),
    [("a.weight", True), ("a.running_mean", True), ("a.kernel", False), ("a.bias", False)],
)
def test_safetensors_are_told_by_their_names(tmp_path, name, is_torch):
    """PyTorch's own `save_file` says nothing of who wrote the file."""
    torch_names = {"a.weight": "kernel", "a.running_mean": "mean"}
    arrays = {name: np.ones((2, 3), "float32"), "b.bias": np.ones(3, "float32")}
    save_file(arrays, tmp_path / "net.safetensors")
    found = transfer.from_safetensors(tmp_path / "net.safetensors")["a"]
    assert list(found) == [torch_names[name] if is_torch else name.partition(".")[2]]


@pytest.mark.parametrize(
    ("more", "metadata"), [(["a.kernel"], None), ([], {"format": "flax"})], ids=["names", "file"]
)
def test_a_weight_alone_does_not_make_safetensors_pytorchs(tmp_path, more, metadata):
    arrays = {name: np.ones((2, 3)) for name in ["a.weight", *more]}
    save_file(arrays, tmp_path / "net.safetensors", metadata)
    assert transfer.from_safetensors(tmp_path / "net.safetensors")["a"]["weight"].shape == (2, 3)


@pytest.mark.parametrize("link", ["external", "soft", "hard", "virtual", "raw"])
def test_hdf5_that_leads_elsewhere_is_not_followed(tmp_path, link):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["layers/dense/vars/0"] = np.ones((2, 2))
    (tmp_path / "secret.raw").write_bytes(bytes(32))
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        variables = file.create_group("layers/dense/vars")
        if link == "external":
            variables["0"] = h5py.ExternalLink("secret.h5", "layers/dense/vars/0")
        elif link == "soft":
            variables["0"] = h5py.SoftLink("/layers")
        elif link == "hard":
            variables["again"] = file["layers"]
        elif link == "virtual":
            layout = h5py.VirtualLayout((2, 2), "f8")
            layout[...] = h5py.VirtualSource("secret.h5", "layers/dense/vars/0", (2, 2))
            variables.create_virtual_dataset("0", layout)
        else:
            place = [(str(tmp_path / "secret.raw"), 0, 32)]
            variables.create_dataset("0", (2, 2), "f8", external=place)
    with pytest.raises(ValueError, match=r"from_keras: .*(not followed|second name|another file)"):
        transfer.from_keras(tmp_path / "net.weights.h5")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"layers/dense/vars/0": b"text"}, "which is not a number"),
        ({"layers/dense/vars/1": np.ones(2)}, "whose names are not the numbers from 0"),
        ({"layers/dense": np.ones(2)}, "has an array where layers should be"),
        ({"a": np.ones(2)}, "without weights of Keras"),
        ({"layers/embedding/vars/0": np.ones(2), "layers/embedding/vars/1": np.ones(2)}, "2 array"),
        ({"layers/dense/vars/0": h5py.Empty("f4")}, "has no array in"),
        ({"layers/dense/vars/0/1": np.ones(2)}, "has layers where an array should be"),
    ],
)
def test_hdf5_that_keras_would_not_write(tmp_path, arrays, message):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    with pytest.raises(ValueError, match=rf"from_keras: .*net\.h5 .*{message}"):
        transfer.from_keras(tmp_path / "net.h5")


def test_layers_by_attribute_and_of_unknown_kinds(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.create_group("vars")
        file["hidden1/vars/0"], file["hidden1/vars/1"] = np.ones((3, 2)), np.ones(2)
        file["hidden1/vars"].attrs["name"] = "dense"
        for index in range(4):
            file[f"norm/vars/{index}"] = np.full(2, float(index))
        for index in range(3):
            file[f"lstm/cell/vars/{index}"] = np.ones((2, 2))
    found = transfer.from_keras(tmp_path / "net.h5")
    assert sorted(found["hidden1"]) == ["bias", "kernel"]
    assert {k: v[0] for k, v in found["norm"].items()} == {
        "scale": 0,
        "bias": 1,
        "mean": 2,
        "var": 3,
    }
    assert sorted(found["lstm"]["cell"]) == ["0", "1", "2"]


def test_weights_of_older_keras_and_in_bfloat16(tmp_path):
    kernel = np.arange(6).reshape(3, 2).astype(ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["layer_names"] = ["hidden1", "top"]
        file["hidden1/hidden1/kernel:0"] = kernel.view("V2")
        file["top/logits/kernel:0"] = np.ones((2, 2))
        file["embed/net/embed/embeddings:0"] = np.ones((2, 2))
    found = transfer.from_keras(tmp_path / "net.h5")
    assert found["hidden1"]["kernel"].dtype == ml_dtypes.bfloat16
    assert found["hidden1"]["kernel"].tobytes() == kernel.tobytes()
    assert found["top"]["logits"]["kernel"].shape == found["embed"]["embedding"].shape == (2, 2)


@pytest.mark.parametrize(
    ("reader", "library"),
    [(transfer.from_keras, "h5py"), (transfer.from_safetensors, "safetensors")],
)
def test_a_missing_library_is_named(monkeypatch, reader, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"{reader.__name__}: needs {library}: pip install"):
        reader("net")


def test_layers_whose_names_are_no_texts(tmp_path):
    for index, name in enumerate([3, ["a", "b"], np.ones(2), h5py.Empty("S1")]):
        with h5py.File(path := tmp_path / f"{index}.h5", "w") as file:
            file["layers/dense/vars/0"] = np.ones((3, 2))
            file["layers/dense/vars"].attrs["name"] = name
        with pytest.raises(ValueError, match=r"has a name in 'layers/dense/vars' that is not text"):
            transfer.from_keras(path)
    with h5py.File(tmp_path / "bytes.h5", "w") as file:
        file["layers/dense/vars/0"] = np.ones((3, 2))
        file["layers/dense/vars"].attrs["name"] = np.bytes_(b"hidden1")
    assert list(transfer.from_keras(tmp_path / "bytes.h5")) == ["hidden1"]


def test_arrays_of_another_byte_order_are_those_of_this_machine(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["layers/dense/vars/0"] = np.arange(6, dtype=">f4").reshape(3, 2)
        file["layers/dense/vars/1"] = np.arange(2, dtype="<f4")
    found = transfer.from_keras(tmp_path / "net.h5")["layers"]["dense"]
    assert all(array.dtype.isnative and array.flags.writeable for array in found.values())
    params = {"dense": {"kernel": np.zeros((3, 2), "f4"), "bias": np.zeros(2, "f4")}}
    rename = {"^dense": "layers/dense"}
    filled, report = transfer.restore(params, tmp_path / "net.h5", rename=rename)
    assert not report.refused
    np.testing.assert_array_equal(filled["dense"]["kernel"], np.arange(6).reshape(3, 2))


# One byte of each. The HDF5 library (2.0) crashes where a text's datatype says that it is a list,
# and takes 4 GB where a text says that it is so long.
@pytest.mark.parametrize(
    ("name", "place", "message"),
    [
        ("keras", 15369, "that is not text"),
        ("keras_conv", 20369, "that is not text"),
        ("keras_conv", 20403, "is damaged"),
    ],
)
def test_one_byte_does_not_kill_or_fill_this_process(tmp_path, name, place, message):
    content = bytearray((FOREIGN / f"{name}.weights.h5").read_bytes())
    content[place] = 255
    (tmp_path / "net.h5").write_bytes(content)
    with pytest.raises(ValueError, match=rf"from_keras: .*net\.h5 .*{message}"):
        transfer.from_keras(tmp_path / "net.h5", max_bytes=10**6)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import os; os.abort()", r"is damaged, or needs more memory .* ended with status -6"),
        ("while True: pass", "is damaged: reading it did not finish within 1 s"),
        ("print(1)", "is damaged, or of another format"),
        ("", "is damaged, or of another format"),
        ("""print('{"groups": [], "arrays": [["a", "O", [1]]]}')""", "is damaged, or of another"),
        ("""print('{"groups": [], "arrays": [["a", "<f4", [9]]]}')""", "is damaged, or of another"),
    ],
)
def test_whatever_the_hdf5_library_does_ends_in_an_error(monkeypatch, tmp_path, program, message):
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr(_hdf5, "_PROGRAM", tmp_path / "program.py")
    monkeypatch.setattr(_apart, "SECONDS", 1)
    with pytest.raises(ValueError, match=rf"from_keras: .*keras\.weights\.h5 {message}"):
        transfer.from_keras(FOREIGN / "keras.weights.h5")


@pytest.mark.skipif(sys.platform != "linux", reason="has no such limit")
def test_the_memory_of_the_process_is_limited(tmp_path):
    content = bytearray((FOREIGN / "keras_conv.weights.h5").read_bytes())
    content[20403] = 255
    (tmp_path / "net.h5").write_bytes(content)
    with (tmp_path / "net.h5").open("rb") as file:
        command = [sys.executable, "-P", PROCESS, str(10**6)]
        said = subprocess.run(command, stdin=file, stdout=subprocess.PIPE, check=False).stdout
    assert b"memory allocation failed" in said  # where it would take 4 GB without the limit


FUZZER = """
import io, os, sys, tempfile
import numpy as np
import hdf5_process as process

process.limit_memory("RLIMIT_AS", 2**31)
random = np.random.default_rng(0)
ends = {"read": 0, "refused": 0}
for path in sys.argv[1:]:
    content = open(path, "rb").read()
    # Where it is not numbers, which stand at the ends of the fixtures.
    for place in random.choice(len(content), 250, replace=False):
        damaged = bytearray(content)
        damaged[place] = random.choice([0, 1, 255, damaged[place] ^ 16])
        with tempfile.TemporaryFile() as file:
            file.write(damaged)
            file.flush()
            print(path, place, damaged[place], file=sys.stderr, flush=True)
            try:
                process.read(file, 10**6, lambda data: None)
                ends["read"] += 1
            except Exception:
                ends["refused"] += 1
print(*ends.values())
"""


def test_other_bytes_do_not_crash_the_hdf5_library_itself():
    paths = [str(FOREIGN / f"{name}.h5") for name in ("keras.weights", "keras_conv_legacy")]
    ended = subprocess.run(
        [sys.executable, "-c", FUZZER, *paths],
        cwd=PROCESS.parent,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr[-300:]  # the last line is what it died of
    read, refused = map(int, ended.stdout.split())
    assert read + refused == 500
    assert min(read, refused) > 50


def test_a_damaged_list_of_texts_in_hdf5_ends(tmp_path):
    content = bytearray((FOREIGN / "keras.weights.h5").read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 25] = 2  # the first text is 512 bytes longer: the library would never return
    (tmp_path / "net.h5").write_bytes(content)
    with pytest.raises(ValueError, match="the lengths of its texts do not add up"):
        transfer.from_keras(tmp_path / "net.h5")


@pytest.mark.parametrize("name", READERS)
def test_truncated_files_are_refused(tmp_path, name):
    content = (FOREIGN / name).read_bytes()
    count = 4 if READERS[name] is transfer.from_keras else 40  # each of those is a process
    for length in [*range(0, 64, 8), *np.linspace(64, len(content) - 1, count).astype(int)]:
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(ValueError, match=name):
            READERS[name](tmp_path / name)


FLIPS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1, max_size=4)


@pytest.mark.parametrize("name", [n for n in READERS if READERS[n] is not transfer.from_keras])
@FUZZ
@given(flips=FLIPS)
def test_flipped_bits_give_an_error_or_arrays(tmp_path_factory, name, flips):
    check_flipped(tmp_path_factory, name, flips)


@pytest.mark.parametrize("name", [n for n in READERS if READERS[n] is transfer.from_keras])
@FEWER
@given(flips=FLIPS)
def test_flipped_bits_in_files_of_keras_do_too(tmp_path_factory, name, flips):
    check_flipped(tmp_path_factory, name, flips)


def check_flipped(tmp_path_factory, name, flips):
    content = bytearray((FOREIGN / name).read_bytes())
    for place, bit in flips:
        content[place % len(content)] ^= 1 << bit
    path = tmp_path_factory.mktemp("flips") / name
    path.write_bytes(content)
    check_outcome(READERS[name], path)


def check_outcome(reader, path):
    """The only two ways to end: an error that names the file, or arrays."""
    found, error = {}, ""
    try:
        found = reader(path)
    except ValueError as failure:
        error = str(failure)
    leaves = jax.tree.leaves(found)
    assert path.name in error if error else leaves
    assert all(isinstance(array, np.ndarray) for array in leaves)


MENDED = {
    "place": st.integers(0, 10**6),
    "value": st.binary(min_size=1, max_size=3),
    "seed": st.integers(0, 99),
}


@pytest.mark.parametrize("name", [name for name in READERS if name.endswith(("z", "pt"))])
@FUZZ
@given(**MENDED)
def test_archives_whose_checksums_were_mended(tmp_path_factory, name, place, value, seed):
    check_mended(tmp_path_factory, name, place, value, seed)


@FEWER
@given(**MENDED)
def test_archives_of_keras_whose_checksums_were_mended(tmp_path_factory, place, value, seed):
    check_mended(tmp_path_factory, "keras.keras", place, value, seed)


def check_mended(tmp_path_factory, name, place, value, seed):
    path = tmp_path_factory.mktemp("mended") / name
    with zipfile.ZipFile(FOREIGN / name) as old, zipfile.ZipFile(path, "w") as new:
        entries = {info.filename: bytearray(old.read(info)) for info in old.infolist()}
        # Mostly in what describes the arrays.
        described = [entry for entry in entries if entry.endswith(("pkl", "json", "npy"))]
        chosen = entries[
            described[seed % len(described)] if seed < 80 else [*entries][seed % len(entries)]
        ]
        reach = min(len(chosen), 128) if name.endswith("z") else len(chosen)
        chosen[place % reach : place % reach + len(value)] = value
        for entry, content in entries.items():
            new.writestr(entry, bytes(content))
    check_outcome(READERS[name], path)


@FUZZ
@given(st.binary(max_size=60))
def test_any_bytes_are_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "plain").write_bytes(content)
    checkpoint(folder / "torch", content)
    for path in folder.iterdir():
        for reader in {*READERS.values()}:
            with pytest.raises(ValueError, match=str(path)):
                reader(path)


def test_missing_and_misnamed_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        transfer.from_torch(tmp_path / "missing.pt")
    shutil.copy(FOREIGN / "torch.pt", tmp_path / "net.npz")
    with pytest.raises(ValueError, match=r"has the entry 'torch/data.pkl', which is not an array"):
        transfer.from_numpy(tmp_path / "net.npz")
