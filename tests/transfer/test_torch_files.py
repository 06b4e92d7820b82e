"""Files of `torch.save`: both formats, all protocols, and whatever lies beside the weights."""

import io
import pickle
import struct
import tarfile
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxopt_cards import transfer
from tests.transfer.torch_programs import (
    MAGIC,
    dictionary,
    in_a_row,
    in_zip,
    integer,
    storage,
    tensor,
    text,
)

FOREIGN = Path(__file__).parent / "foreign"
ENDLESS = ()
for _ in range(99):
    ENDLESS = (ENDLESS, ENDLESS)  # to print, though not to write


@pytest.mark.parametrize("ending", ["", "_legacy"])
@pytest.mark.parametrize("protocol", range(6))
def test_checkpoints_of_all_protocols_in_both_formats(protocol, ending):
    found = transfer.from_torch(FOREIGN / f"torch_protocol{protocol}{ending}.pt")
    kernel = np.arange(6, dtype="f4").reshape(2, 3).T
    expected = {
        "kernel": kernel,
        "bias": np.array([-1, 1], "f4"),
        "tied": {"kernel": kernel},
        "young": np.array([1, 65535], "u2"),
        "view": np.arange(24, dtype="f4").reshape(4, 6)[1:, ::2],
        "marked": np.full(2, 3, "f4"),
    }
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a, b, strict=True), found["net"], expected
    )
    assert found["beside"] == {"3": {"kernel": np.ones(1, "f4")}}
    state = found["optimizer"]["state"]
    assert {name: sorted(one) for name, one in state.items()} == {
        name: ["exp_avg", "exp_avg_sq", "step"] for name in ("0", "1")
    }
    # After one step on a gradient of one.
    np.testing.assert_allclose(state["1"]["exp_avg"], np.full(2, 0.1), rtol=1e-6)
    assert state["0"]["step"] == 1


def test_the_network_of_a_file_before_1_6():
    young, old = (transfer.from_torch(FOREIGN / f"{name}.pt") for name in ("torch", "torch_legacy"))
    jax.tree.map(np.testing.assert_array_equal, old, young)
    assert jax.tree.structure(old) == jax.tree.structure(young)


def test_restore_reads_files_before_1_6():
    params = {"kernel": np.zeros((3, 2), "f4"), "bias": np.zeros(2, "f4")}
    for protocol in range(6):
        path = FOREIGN / f"torch_protocol{protocol}_legacy.pt"
        filled, report = transfer.restore(params, path, rename={"^": "net/"})
        assert sorted(report.taken) == ["bias", "kernel"]
        np.testing.assert_array_equal(filled["bias"], [-1, 1])


def test_tied_tensors_are_one_array(tmp_path):
    names = ("a.weight", "b.weight", "embed.weight", "other")
    views = [tensor(0, (3, 2), (2, 1))] * 3 + [tensor(0, (2, 3), (3, 1))]
    program = dictionary(*zip(names, views, strict=True))
    for path in (in_zip(tmp_path / "z.pt", program), in_a_row(tmp_path / "r.pt", program)):
        found = transfer.from_torch(path)
        assert found["a"]["kernel"] is found["b"]["kernel"]
        assert not np.shares_memory(found["a"]["kernel"], found["other"])
        np.testing.assert_array_equal(found["embed"]["embedding"].T, found["a"]["kernel"])
        assert all(array.flags.writeable for array in jax.tree.leaves(found))


def test_tied_tensors_in_memory_are_one_array():
    weight = np.arange(6.0).reshape(2, 3)

    class Tensor:
        """Two views of the same numbers are two objects, as in PyTorch."""

        shape, dtype = (2, 3), "torch.float64"
        detach = cpu = lambda self: self

        def data_ptr(self):
            return 64

        def stride(self):
            return (3, 1)

        def is_conj(self):
            return False

        is_neg = is_conj

        def numpy(self):
            return weight

    class Negative(Tensor):
        """It has the numbers of the others, and another sign."""

        def is_neg(self):
            return True

        def numpy(self):
            return -weight

    for one, two in ((Tensor(), Tensor()), (weight, weight)):
        others = {"c.weight": weight.copy(), "d.weight": Negative()}
        found = transfer.from_torch({"a.weight": one, "b.weight": two} | others)
        assert found["a"]["kernel"] is found["b"]["kernel"]
        np.testing.assert_array_equal(found["d"]["kernel"], -weight.T)
        assert found["a"]["kernel"] is not found["c"]["kernel"]
        np.testing.assert_array_equal(found["a"]["kernel"], weight.T)


def test_parts_of_storages_of_pytorch_before_0_4(tmp_path):
    view = b"(" + text("9") + integer(2) + integer(3) + b"t"
    program = dictionary(("a", tensor(1, (2,), (1,), storage(view=view))))
    np.testing.assert_array_equal(
        transfer.from_torch(in_a_row(tmp_path / "a.pt", program))["a"], [3, 4]
    )
    program = dictionary(("a", tensor(1, (3,), (1,), storage(view=view))))
    with pytest.raises(ValueError, match=r"'a' of shape \(3,\) leaves its array"):
        transfer.from_torch(in_a_row(tmp_path / "a.pt", program))


def test_tensors_as_the_first_pytorch_rebuilt_them(tmp_path):
    sizes = b"(" + integer(2) + integer(3) + b"t(" + integer(3) + integer(1) + b"t"
    first = b"ctorch._utils\n_rebuild_tensor\n(" + storage() + integer(0) + sizes + b"tR"
    found = transfer.from_torch(in_a_row(tmp_path / "a.pt", dictionary(("a", first))))["a"]
    np.testing.assert_array_equal(found, np.arange(6).reshape(2, 3))


def test_dictionaries_of_python_2(tmp_path):
    pair = b"](" + b"U\x01a" + tensor() + b"e"
    program = b"ccollections\nOrderedDict\n](" + pair + b"e\x85R"
    found = transfer.from_torch(in_a_row(tmp_path / "a.pt", program))
    np.testing.assert_array_equal(found["a"], np.arange(6))


@pytest.mark.parametrize(
    "value",
    [
        text("x" * 10**5),
        b"\x8d" + struct.pack("<Q", 10**6) + b"x" * 10**6,
        b"\x8b" + struct.pack("<i", 10**5) + b"\x7f" * 10**5,
        b"V" + b"x" * 10**5 + b"\n",
        b"L" + b"1" * 10**5 + b"L\n",
        b"S'a\\nb'\n",
        b"]q\x00h\x00a",
        b"c__builtin__\nset\n]\x85R",
        b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02f8\x89\x88\x87RU\x08\0\0\0\0\0\0\0\0\x86R",
    ],
)
def test_what_is_beside_the_weights_is_passed_over(tmp_path, value):
    program = dictionary(("before", value), ("a", tensor()))
    for path in (in_zip(tmp_path / "z.pt", program), in_a_row(tmp_path / "r.pt", program)):
        found = transfer.from_torch(path)
        assert list(found) == ["a"]
        np.testing.assert_array_equal(found["a"], np.arange(6))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (
            b"ctorch._utils\n_rebuild_sparse_tensor\n",
            r"has a sparse tensor, .*tensor\.to_dense\(\)",
        ),
        (b"ctorch._utils\n_rebuild_qtensor\n", r"has a quantised tensor, .*tensor\.dequantize\(\)"),
        (b"ctorch\nQInt8Storage\n", r"has a quantised tensor, .*tensor\.dequantize\(\)"),
        (
            b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
            "has a tensor of the device meta",
        ),
        (b"ctorch._utils\n_rebuild_nested_tensor\n", "has a nested tensor"),
        (
            b"cargparse\nNamespace\n",
            r"asks for argparse\.Namespace, which no .*save one with torch",
        ),
        (b"cnumpy\nndarray\n", r"asks for numpy\.ndarray, which no state_dict needs"),
        (b"cbuiltins\ngetattr\n", r"asks for builtins\.getattr"),
        (b"c\x1b[2J\n\xc3\xa9\n", r"asks for \\x1b\[2J\.é"),
    ],
)
def test_things_that_are_refused_by_name(tmp_path, program, message):
    program = dictionary(("a", tensor()), ("b", program))
    for path in (in_zip(tmp_path / "z.pt", program), in_a_row(tmp_path / "r.pt", program)):
        with pytest.raises(ValueError, match=rf"from_torch: .*\.pt {message}"):
            transfer.from_torch(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": MAGIC + 1}, "is a pickle that torch.save did not write"),
        ({"version": 1002}, "is of a version of torch.save that is not 1001"),
        ({"version": ENDLESS}, "is of a version of torch.save that is not 1001"),
        ({"magic": ENDLESS}, "is a pickle that torch.save did not write"),
        ({"little": False}, "comes from a machine with another byte order"),
        ({"keys": ["1"]}, "is damaged: it has no list of its arrays"),
        ({"keys": []}, "is damaged: there are no numbers '0'"),
        ({"keys": ["0", "0"]}, "is damaged: it has no list of its arrays"),
        ({"keys": [0]}, "is damaged: it has no list of its arrays"),
        ({"blocks": []}, "is cut short, or damaged"),
        ({"blocks": [np.arange(5, dtype="f4")]}, "is damaged: 'a' should have 6 numbers"),
        ({"blocks": [np.arange(7, dtype="f4")]}, "is damaged: 'a' should have 6 numbers"),
    ],
)
def test_files_that_pytorch_before_1_6_would_not_write(tmp_path, changes, message):
    path = in_a_row(tmp_path / "a.pt", dictionary(("a", tensor())), **changes)
    with pytest.raises(ValueError, match=rf"from_torch: .*a\.pt {message}"):
        transfer.from_torch(path)


def test_a_count_that_is_not_there(tmp_path):
    for count in (-1, 2**62, 2**63 - 1):
        path = in_a_row(tmp_path / "a.pt", dictionary(("a", tensor())), blocks=[])
        path.write_bytes(path.read_bytes() + struct.pack("<q", count))
        with pytest.raises(ValueError, match="is cut short, or damaged"):
            transfer.from_torch(path)


def test_older_and_other_pickles_are_named(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(
        ValueError, match=r"is a pickle that torch\.save did not write: it is not op"
    ):
        transfer.from_torch(tmp_path / "a.pkl")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    with pytest.raises(
        ValueError, match=r"a tar archive, as PyTorch before 0\.2 wrote.*save it again"
    ):
        transfer.from_torch(tmp_path / "a.tar")


def test_truncated_files_before_1_6(tmp_path):
    content = (FOREIGN / "torch_protocol4_legacy.pt").read_bytes()
    for length in np.linspace(0, len(content) - 1, 150).astype(int):
        (tmp_path / "a.pt").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"from_torch: .*a\.pt is "):
            transfer.from_torch(tmp_path / "a.pt")
