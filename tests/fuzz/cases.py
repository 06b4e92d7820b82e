"""Cases: a valid file, changed as its number and the seed say, read, and judged."""

import contextlib
import random
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.mutations import mutated
from tests.fuzz.readers import READERS
from tests.fuzz.worker import Outcome, Worker, fault_of


class Finding(NamedTuple):
    """A file that was not read as it should be."""

    reader: str
    case: int
    fault: str
    path: Path


class Fuzzer:
    """Valid files of one reader, what it usually takes to read them, and changes of them."""

    def __init__(self, name: str, seed: int, folder: Path, worker: Worker):
        """Writes the valid files into the folder, and reads them."""
        self.name, self._seed, self._folder, self._worker = name, seed, folder, worker
        self._reader = READERS[name]
        (folder / "valid").mkdir(parents=True)
        self._valid = self._reader.write(folder / "valid")
        self._all = [file.read_bytes() for path in self._valid for file in files_of(path)]
        outcomes = [self._read(path)[1] for path in (*self._valid, *self._valid)]
        usual = outcomes[len(self._valid) :]  # the first time includes imports and compilation
        self._usual = max(outcome.seconds for outcome in usual)
        self.refused = statistics.mean(outcome.error is not None for outcome in usual)

    def run(self, case: int) -> tuple[Outcome, Finding | None]:
        """Makes a case and reads it."""
        path = self.make(case)
        size, outcome = self._read(path)
        fault = fault_of(outcome, self._reader.names, size, self._usual)
        return outcome, Finding(self.name, case, fault, path) if fault else None

    def make(self, case: int) -> Path:
        """The file or folder of a case."""
        rng = random.Random(f"{self._seed} {self.name} {case}")
        source, target = rng.choice(self._valid), self._folder / "case"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        if source.is_file():
            path = target / source.name
            path.write_bytes(mutated(rng, source.read_bytes(), self._all))
            return path
        path = Path(shutil.copytree(source, target / source.name))
        for _ in range(rng.choice((1, 1, 2))):
            self._change(rng, rng.choice(files_of(path)))
        if rng.random() < 0.7:
            with contextlib.suppress(Exception):  # what is damaged cannot be mended
                self._reader.mend(path, rng)
        return path

    def _change(self, rng: random.Random, file: Path) -> None:
        if rng.random() < 0.05:
            file.unlink()
        else:
            file.write_bytes(mutated(rng, file.read_bytes(), self._all))

    def _read(self, path: Path) -> tuple[int, Outcome]:
        """The size of a file or folder before it is read, and what came of it."""
        size = sum(file.stat().st_size for file in files_of(path))
        copy = self._folder / "read"  # some readers write, too: the case stays as it is
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        copied = (shutil.copytree if path.is_dir() else shutil.copy)(path, copy / path.name)
        return size, self._worker.read(self.name, Path(copied))


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files in a folder."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def kept(finding: Finding, folder: Path, seed: int) -> Path:
    """Copies what was found, with how to make it again."""
    name = f"{finding.reader} {finding.case}".replace(" ", "-").translate({40: None, 41: None})
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(finding.path.parent, target)
    again = f"python -m tests.fuzz --only {finding.reader!r} --seed {seed} --case {finding.case}"
    (target / "finding.txt").write_text(f"{finding.fault}\n\n{again}\n", errors="backslashreplace")
    return target


def fuzzers(names: list[str], seed: int, folder: Path, worker: Worker) -> Iterator[Fuzzer]:
    """A fuzzer of each reader."""
    for number, name in enumerate(names):
        yield Fuzzer(name, seed, folder / str(number), worker)
