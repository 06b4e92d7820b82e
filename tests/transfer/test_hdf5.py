"""What HDF5 files can do beyond holding arrays: load libraries, multiply bytes, write short."""

import io
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from jaxopt_cards import transfer
from jaxopt_cards.transfer.files import hdf5 as _hdf5
from jaxopt_cards.transfer.files import hdf5_process as _hdf5_process
from jaxopt_cards.transfer.files import reader_process as _reader_process

KERNEL = "layers/dense/vars/0"
UNKNOWN = 32001  # blosc, which is a library of its own


def filtered(path, code=UNKNOWN):
    """A file with a chunk that only this filter can read."""
    with h5py.File(path, "w") as file:
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_chunk((4,))
        settings.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3, 4))
        space = h5py.h5s.create_simple((4,))
        group = file.create_group("layers/dense/vars")
        dataset = h5py.h5d.create(group.id, b"0", h5py.h5t.NATIVE_FLOAT, space, settings)
        dataset.write_direct_chunk((0,), b"anything", 0)
    return path


def test_filters_that_are_not_built_in_are_refused_by_name(tmp_path):
    path = filtered(tmp_path / "net.h5")
    with pytest.raises(ValueError, match=rf"'{KERNEL}' compressed by filter 32001, and only"):
        transfer.from_keras(path)


@pytest.mark.parametrize("settings", [{"compression": "gzip"}, {"compression": "lzf"}])
def test_filters_that_are_built_in_are_read(tmp_path, settings):
    array = np.arange(12.0).reshape(4, 3)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.create_dataset(KERNEL, data=array, shuffle=True, fletcher32=True, **settings)
    found = transfer.from_keras(tmp_path / "net.h5")["layers"]["dense"]["kernel"]
    np.testing.assert_array_equal(found, array)


def test_no_library_is_loaded_from_the_plugin_folder(tmp_path, monkeypatch):
    path = filtered(tmp_path / "net.h5")
    (tmp_path / "libtrap.so").write_bytes(b"\x7fELF")  # that it is tried is enough
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(tmp_path))
    monkeypatch.setenv("HDF5_VOL_CONNECTOR", "trap")
    # The HDF5 library itself, without the check above: names of groups can be compressed, too.
    program = f"import h5py; h5py.File({str(path)!r})[{KERNEL!r}][()]"

    def said(environment):
        command = [sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, env=environment).stderr

    assert "libtrap.so" in said(os.environ | {"HDF5_VOL_CONNECTOR": ""})  # the trap works
    assert "libtrap.so" not in (text := said(_hdf5._environment()))
    assert "filter plugins disabled" in text


def test_a_chunk_larger_than_its_array_counts(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        settings = {"chunks": (2**28,), "compression": "gzip", "maxshape": (None,)}
        file.create_dataset(KERNEL, (1,), "f4", **settings)
    with pytest.raises(ValueError, match="would take 1073741824 bytes, and max_bytes is 1000000"):
        transfer.from_keras(tmp_path / "net.h5", max_bytes=10**6)


def test_names_that_nesting_multiplies_are_bounded(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        for index in range(8):
            group = file.create_group(str(index))
            for _ in range(200):
                group = group.create_group("a" * 200)
    with pytest.raises(ValueError, match="has paths of more than 16777216 characters"):
        transfer.from_keras(tmp_path / "net.h5")


def test_groups_in_groups_end(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file["/".join(["layers"] * 300)] = np.ones(2)
    with pytest.raises(ValueError, match="has groups in groups, deeper than 256"):
        transfer.from_keras(tmp_path / "net.h5")


def test_groups_without_number_are_refused_before_they_are_read(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w", libver="latest") as file:
        for index in range(_hdf5_process.MOST_ITEMS):
            file.create_group(f"layers/{index}")
    with pytest.raises(ValueError, match="has more than 32768 groups and arrays"):
        transfer.from_keras(tmp_path / "net.h5")


def test_arrays_that_have_no_numbers_for_names(tmp_path):
    with h5py.File(tmp_path / "net.weights.h5", "w") as file:
        file["layers/dense/vars/a"] = np.ones(2)
    with pytest.raises(
        ValueError, match="arrays in 'layers/dense/vars' whose names are not the numbers from 0"
    ):
        transfer.from_keras(tmp_path / "net.weights.h5")


def test_texts_that_many_groups_share_are_bounded(tmp_path):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        for index in range(300):
            group = file.create_group(f"layers/dense_{index}/vars")
            group.attrs["name"] = np.bytes_(b"a" * 60000)
    with pytest.raises(ValueError, match="has texts of more than 16777216 bytes beside its arrays"):
        transfer.from_keras(tmp_path / "net.h5")


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype([("a", "f4"), ("b", "f4")]),
        np.dtype(("f4", (3,))),
        h5py.vlen_dtype(np.float32),
        h5py.string_dtype(),
        h5py.ref_dtype,
        h5py.regionref_dtype,
        h5py.opaque_dtype(np.dtype("M8[s]")),
    ],
    ids=["compound", "arrays", "lists", "texts", "references", "regions", "times"],
)
def test_what_is_no_plain_number_is_refused(tmp_path, dtype):
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.create_dataset(KERNEL, (2,), dtype)
    with pytest.raises(ValueError, match=r"from_keras: .*net\.h5 has .*which is not a number"):
        transfer.from_keras(tmp_path / "net.h5")


class Short(io.BytesIO):
    """A pipe or a disk that takes a part of what it is given, as Linux does beyond 2 GiB."""

    def write(self, data):
        return super().write(bytes(data)[:7])


def test_short_writes_go_on():
    file, content = Short(), bytes(range(256))
    _reader_process.write_all(file, content)
    assert file.getvalue() == content


def test_short_writes_of_a_whole_file_go_on(tmp_path, monkeypatch):
    """Without a buffer of Python, each write is one call of the system."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    monkeypatch.setattr(_hdf5, "_PROGRAM", tmp_path / "program.py")
    (tmp_path / "program.py").write_text(
        f"import sys; sys.path.insert(0, {str(_hdf5_process.__file__.rpartition('/')[0])!r})\n"
        "import hdf5_process as process\n"
        "class Short:\n"
        "    def write(self, data): return sys.__stdout__.buffer.write(bytes(data[:1000]))\n"
        "class Output: buffer, flush = Short(), lambda self: None\n"
        "sys.stdout = Output()\n"
        "process.main(int(sys.argv[1]))\n"
    )
    array = np.arange(5000.0).reshape(50, 100)
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file[KERNEL] = array
    found = transfer.from_keras(tmp_path / "net.h5")["layers"]["dense"]["kernel"]
    np.testing.assert_array_equal(found, array)
