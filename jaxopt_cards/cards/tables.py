"""Data by name: a data set of the package, a file of arrays, or a table of numbers."""

import csv
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxopt_cards.core.checks import escaped
from jaxopt_cards.data import Examples, Splits, digits, mnist

OURS = {"digits": digits, "mnist": mnist}
SHARE = 0.2  # fraction of a file's examples for testing, and of the others for validation


class Loaded(NamedTuple):
    """Data with the names of classes and the scale of inputs."""

    splits: Splits
    classes: list[str]  # names by label
    scale: tuple[np.ndarray, np.ndarray] | None = None  # mean and deviation of the original inputs


def load(name: str, *, label: str = "", header: bool | None = None, seed: int = 0) -> Loaded:
    """Reads `digits`, `mnist`, an `.npz` or a `.csv`; errors in a file are `ValueError`s."""
    if name in OURS:
        try:
            splits = OURS[name]()
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from None
        return Loaded(splits, [str(number) for number in range(10)])
    path = Path(name)
    readers = {".npz": _npz, ".csv": _csv, ".tsv": _csv}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"data must be digits, mnist, or a file ending with .npz or .csv, got {name!r}"
        )
    try:
        parts = readers[path.suffix.lower()](path, label, header)
        return _loaded(name, parts, seed)
    except OSError as error:
        raise ValueError(escaped(f"cannot read {name}: {error.strerror or error}")) from None
    except ValueError as error:  # with names of columns and arrays from the file
        raise ValueError(escaped(error)) from None


def _loaded(name: str, parts: dict[str, tuple[np.ndarray, np.ndarray]], seed: int) -> Loaded:
    """Draws missing parts from the others, standardises inputs, and numbers the labels."""
    for part, (x, y) in parts.items():
        _check(f"{name}: {part}", x, y)
    widths = {part: x.shape[1:] for part, (x, _) in parts.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"{name}: the inputs of all parts must have the same shape, got {widths}")
    kinds = {y.dtype.kind in "US" for _, y in parts.values()}
    if len(kinds) > 1:
        raise ValueError(f"{name}: labels must be all numbers or all words")
    classes = np.unique(np.concatenate([y for _, y in parts.values()]))
    if len(classes) < 2:
        raise ValueError(f"{name}: there must be two or more classes, got {classes.tolist()}")
    examples = {
        part: Examples(
            x.reshape(len(x), -1).astype(np.float32), np.searchsorted(classes, y).astype(np.int32)
        )
        for part, (x, y) in parts.items()
    }
    splits = _split(name, examples, seed)
    # Squares of float32 numbers may overflow float32.
    wide = splits.train.x.astype(np.float64)
    mean, deviation = wide.mean(axis=0).astype(np.float32), wide.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1).astype(np.float32)
    scaled = (Examples((x - mean) / deviation, y) for x, y in splits)
    # Floats are whole numbers, as `_check` ensures.
    names = [str(int(c) if isinstance(c, float) else c) for c in classes.tolist()]
    return Loaded(Splits(*scaled), names, (mean, deviation))


def _split(name: str, parts: dict[str, Examples], seed: int) -> Splits:
    random = np.random.default_rng(seed)
    train = parts["train"]
    rest = {}
    for part in ("test", "valid"):
        if part not in parts:
            order = random.permutation(len(train.y))
            count = round(SHARE * len(order))
            if not 0 < count < len(order):
                raise ValueError(f"{name}: {len(order)} examples are too few to draw {part} from")
            rest[part] = Examples(*(array[order[:count]] for array in train))
            train = Examples(*(array[order[count:]] for array in train))
    rest = parts | rest
    return Splits(train, rest["valid"], rest["test"])


def _check(what: str, x: np.ndarray, y: np.ndarray) -> None:
    """Raises unless the inputs are numbers and the labels are classes."""
    if x.dtype.kind not in "biuf" or x.ndim < 2 or not x.size:
        raise ValueError(f"{what}: x must be numbers of shape (n, ...), got {x.dtype}{[*x.shape]}")
    if y.ndim != 1 or len(x) != len(y):
        raise ValueError(
            f"{what}: y must have shape ({len(x)},), a label for each row of x, got {[*y.shape]}"
        )
    fits = np.abs(x) <= np.finfo(np.float32).max  # False for NaN
    if not fits.all():
        row = int(np.argwhere(~fits)[0, 0])
        expected = "finite, and within the range of float32"
        raise ValueError(f"{what}: x must be {expected}, got {x[row][~fits[row]][0]} in row {row}")
    if y.dtype.kind not in "biufUS":
        raise ValueError(f"{what}: y must be classes, whole numbers or words, got {y.dtype}")
    if y.dtype.kind == "f" and not (whole := np.isfinite(y) & (y == np.floor(y))).all():
        got = y[~whole][0]
        raise ValueError(f"{what}: y must be classes, whole numbers or words, got {got}")


def _npz(path: Path, label: str, header: bool | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Arrays x and y, or x_train and y_train and optionally those of valid and test."""
    if label or header is not None:
        raise ValueError(f"{path}: --label and --header are for tables, this is a file of arrays")
    try:
        # Pickled objects are refused, since they may execute anything.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ValueError("it is a single array, as in .npy")
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, KeyError) as error:
        raise ValueError(f"{path}: it is not a file of plain arrays: {error}") from None
    # Other arrays are ignored, but not those with names like examples.
    named = {name for name in arrays if name.split("_")[0] in ("x", "y")}
    parts = {part: (f"x_{part}", f"y_{part}") for part in ("train", "valid", "test")}
    parts = {part: pair for part, pair in parts.items() if named.issuperset(pair)}
    parts = {"train": ("x", "y")} if named == {"x", "y"} else parts
    if "train" not in parts or named != {name for pair in parts.values() for name in pair}:
        raise ValueError(
            f"{path}: must have arrays x and y, or x_train and y_train (and x_valid and y_valid, "
            f"x_test and y_test), got {sorted(arrays)}"
        )
    return {part: (arrays[x], arrays[y]) for part, (x, y) in parts.items()}


def _csv(path: Path, label: str, header: bool | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Numbers and a column of labels: by name, by number from 1, or else the last."""
    names, rows = _rows(path, header)
    column = _column(path, names, label, len(rows[0][1]))
    names = names or [str(number) for number in range(1, len(rows[0][1]) + 1)]
    inputs, labels = [], []
    for line, fields in rows:
        labels.append(fields[column].strip())
        inputs.append(
            [
                _number(path, line, names[index], field, names[column])
                for index, field in enumerate(fields)
                if index != column
            ]
        )
        if labels[-1].lower() in ("", "nan"):
            raise ValueError(f"{path}, line {line}: the label is missing")
    return {"train": (np.array(inputs), _labels(labels))}


def _rows(path: Path, header: bool | None) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names of the columns, if there are any, and the rows with their line numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            rows = [(reader.line_num, fields) for fields in reader if fields]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: it is not a text table: {error}") from None
    if header is None:
        header = bool(rows) and not any(_is_number(field) for field in rows[0][1])
    names = [name.strip() for name in rows.pop(0)[1]] if header and rows else []
    if not rows or len(rows[0][1]) < 2:
        raise ValueError(f"{path}: there must be rows with two or more columns")
    width = len(names or rows[0][1])
    for line, fields in rows:
        if len(fields) != width:
            raise ValueError(f"{path}, line {line}: expected {width} columns, got {len(fields)}")
    return names, rows


def _column(path: Path, names: list[str], label: str, width: int) -> int:
    if not label:
        return width - 1
    if names.count(label) == 1:
        return names.index(label)
    if label.isdecimal() and 1 <= int(label) <= width:
        return int(label) - 1
    there = f"the columns are {', '.join(names)}" if names else "its columns have no names"
    raise ValueError(
        f"{path}: --label must name one column, or be its number from 1 to {width}, got "
        f"{label!r}; {there}"
    )


def _number(path: Path, line: int, column: str, field: str, label: str) -> float:
    try:
        number = float(field)
    except ValueError:
        raise ValueError(
            f"{path}, line {line}, column {column}: {field!r} is not a number; the labels are "
            f"column {label}, --label chooses another"
        ) from None
    if not np.isfinite(number):
        raise ValueError(f"{path}, line {line}, column {column}: {field!r} is not finite")
    return number


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _labels(words: list[str]) -> np.ndarray:
    """Numbers if all are numbers, so that 10 comes after 9; else words."""
    for kind in (int, float):
        try:
            return np.array(list(map(kind, words)))
        except ValueError:
            continue
    return np.array(words)
