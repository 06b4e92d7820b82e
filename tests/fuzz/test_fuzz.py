"""A short run of the fuzzer, always the same, and hostile files; each in a process with limits."""

import sys

import pytest

from tests.fuzz.cases import Fuzzer
from tests.fuzz.hostile import FILES
from tests.fuzz.readers import READERS
from tests.fuzz.worker import MAX_BYTES, Outcome, Worker, fault_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is told by /proc")

# What is left of it has weights that can be read.
HARMLESS = ("names_in_a_configuration",)


@pytest.fixture(scope="module")
def worker():
    with Worker() as worker:
        yield worker


@pytest.mark.parametrize("name", READERS)
def test_changed_files_are_read_or_refused_clearly(name, worker, tmp_path):
    fuzzer = Fuzzer(name, 0, tmp_path, worker)
    assert fuzzer.refused < 0.8  # or nothing is tried
    findings = [fuzzer.run(case)[1] for case in range(READERS[name].cases)]
    assert [f"case {found.case}: {found.fault}" for found in findings if found] == []


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("through", ["its reader", "restore"])
def test_hostile_files_are_refused_at_once_in_little_memory(kind, through, worker, tmp_path):
    reader, name, write = FILES[kind]
    path, called = tmp_path / name, reader if through == "its reader" else through
    write(path)
    worker.read(called, path)  # the first time is that of imports
    outcome = worker.read(called, path)
    usual = 1.0 if reader == "from_keras" else 0.2  # a process of its own
    assert fault_of(outcome, (called,), path.stat().st_size, usual) == ""
    assert kind in HARMLESS or outcome.error is not None


@pytest.mark.parametrize(
    ("outcome", "fault"),
    [
        (Outcome(None), ""),
        (Outcome("f: x is damaged", "ValueError"), ""),
        (Outcome("f: x: No such file", "OSError"), ""),
        (Outcome("x is damaged", "ValueError"), "does not name the function"),
        (Outcome("f: a\x1b[31m", "ValueError"), "not escaped"),
        (Outcome("f: b", "KeyError"), "raised KeyError"),
        (Outcome("f: MemoryError", "ValueError"), "ran out of memory"),
        (Outcome(None, seconds=3.0), "took 3.0 s"),
        (Outcome(None, memory=2**30), "bytes of memory"),
        (Outcome(None, child=2**30), "in a process of its own"),
        (Outcome("the process ended with status -11", "died"), "status -11"),
    ],
)
def test_faults_are_told(outcome, fault):
    told = fault_of(outcome, ("f",), size=1000, usual=0.5)
    assert fault in told
    assert bool(told) == bool(fault)


def test_a_process_that_dies_is_replaced(worker, tmp_path, monkeypatch):
    (tmp_path / "net.npz").write_bytes(b"")
    worker.read("from_numpy", tmp_path / "net.npz")
    worker._process.kill()
    assert worker.read("from_numpy", tmp_path / "net.npz").kind == "died"
    assert worker.read("from_numpy", tmp_path / "net.npz").kind == "ValueError"


def test_a_case_is_the_same_each_time(worker, tmp_path):
    first, second = (
        Fuzzer("from_numpy", 7, tmp_path / folder, worker).make(5).read_bytes() for folder in "ab"
    )
    assert first == second
    assert MAX_BYTES < 2**30
