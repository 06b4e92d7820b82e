import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jaxopt_cards import data
from jaxopt_cards.cards.tables import load

X = np.random.default_rng(0).normal(3, 2, (50, 4))
Y = np.arange(50) % 3


def save(folder, **arrays):
    np.savez(folder / "data.npz", **arrays)
    return str(folder / "data.npz")


def write(folder, text, name="data.csv"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(folder / name)


def table(words=None, header=""):
    rows = [
        ",".join([*map(repr, x.tolist()), str(words[y] if words else y)])
        for x, y in zip(X, Y, strict=True)
    ]
    return "\n".join([header, *rows] if header else rows)


def test_digits_are_those_of_data():
    found, expected = load("digits").splits, data.digits()
    np.testing.assert_array_equal(found.test.x, expected.test.x)


def together(splits):
    return np.concatenate([part.x for part in splits]), np.concatenate([p.y for p in splits])


def check_is_all_of_it(loaded, x, y):
    """Every row once, in some order, standardised by those of training."""
    mean, deviation = loaded.scale
    found_x, found_y = together(loaded.splits)
    rows = np.column_stack([found_x * deviation + mean, found_y])
    expected = np.column_stack([x, y])
    order = [np.lexsort(each.T.round(3)) for each in (rows, expected)]
    np.testing.assert_allclose(rows[order[0]], expected[order[1]], atol=1e-5)
    train = loaded.splits.train.x
    np.testing.assert_allclose(train.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(train.std(axis=0), 1, atol=1e-5)


def test_arrays_are_split_and_standardised(tmp_path):
    loaded = load(save(tmp_path, x=X, y=Y))
    assert [len(part.y) for part in loaded.splits] == [32, 8, 10]
    assert loaded.classes == ["0", "1", "2"]
    check_is_all_of_it(loaded, X, Y)
    again, other = load(save(tmp_path, x=X, y=Y)), load(save(tmp_path, x=X, y=Y), seed=1)
    np.testing.assert_array_equal(again.splits.test.y, loaded.splits.test.y)
    assert not np.array_equal(other.splits.test.x, loaded.splits.test.x)


def test_parts_that_are_given_stay(tmp_path):
    path = save(tmp_path, x_train=X[:40], y_train=Y[:40], x_test=X[40:], y_test=Y[40:])
    loaded = load(path)
    mean, deviation = loaded.scale
    np.testing.assert_allclose(loaded.splits.test.x * deviation + mean, X[40:], atol=1e-5)
    assert [len(part.y) for part in loaded.splits] == [32, 8, 10]


@pytest.mark.parametrize("header", ["", "a,b,c,d,kind"])
def test_tables_have_names_or_not(tmp_path, header):
    words = ["cat", "dog", "owl"]
    loaded = load(write(tmp_path, table(words, header)))
    assert loaded.classes == words
    check_is_all_of_it(loaded, X, Y)


@pytest.mark.parametrize("label", ["kind", "1"])
def test_the_column_of_labels_is_found_by_name_or_number(tmp_path, label):
    rows = "\n".join(f"{y},{x[0]!r},{x[1]!r}" for x, y in zip(X.tolist(), Y, strict=True))
    loaded = load(write(tmp_path, f"kind,a,b\n{rows}"), label=label)
    check_is_all_of_it(loaded, X[:, :2], Y)


def test_semicolons_quotes_and_a_mark_at_the_start_are_read(tmp_path):
    rows = "\r\n".join(f'"{x}";"{y}"' for x, y in zip(X[:, 0].tolist(), Y, strict=True))
    check_is_all_of_it(load(write(tmp_path, b"\xef\xbb\xbf" + rows.encode())), X[:, :1], Y)


@pytest.mark.parametrize("ending", ["", ".0"])
def test_labels_are_ordered_as_numbers(tmp_path, ending):
    rows = "\n".join(f"{index},{9 + index % 3}{ending}" for index in range(30))
    assert load(write(tmp_path, rows)).classes == ["9", "10", "11"]


def test_other_arrays_are_left_alone_and_whole_floats_are_classes(tmp_path):
    path = save(tmp_path, x=X, y=Y.astype(float), columns=np.array(["a", "b", "c", "d"]))
    assert load(path).classes == ["0", "1", "2"]


def test_inputs_whose_squares_overflow_are_standardised(tmp_path):
    check = load(save(tmp_path, x=X * 1e30, y=Y)).splits.train.x
    np.testing.assert_allclose(check.std(axis=0), 1, atol=1e-5)


@settings(max_examples=20, deadline=None)
@given(
    x=hnp.arrays(
        float,
        st.tuples(st.integers(20, 30), st.integers(1, 3)),
        elements=st.floats(-1e3, 1e3, width=32),
        unique=True,
    )
)
def test_numbers_survive_the_text(x, tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers")
    y = np.arange(len(x)) % 2
    text = "\n".join(
        ",".join([*map(repr, row), str(c)]) for row, c in zip(x.tolist(), y, strict=True)
    )
    as_text, as_arrays = load(write(folder, text), header=False), load(save(folder, x=x, y=y))
    np.testing.assert_array_equal(as_text.splits.train.x, as_arrays.splits.train.x)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("1,2,a\n3,b\n", {}, "line 2: expected 3 columns, got 2"),
        ("x,y,c\n1,2,a\n3,oops,b\n", {}, "line 3, column y: 'oops' is not a number"),
        ("1,2,a\n3,,b\n", {}, "line 2, column 2: '' is not a number"),
        ("1,nan,a\n", {}, "line 1, column 2: 'nan' is not finite"),
        ("1,2,\n", {}, "line 1: the label is missing"),
        ("1,2,a\n1,2,NaN\n", {}, "line 2: the label is missing"),
        ("1,0\n2,0.5\n", {}, "y must be classes, whole numbers or words, got 0.5"),
        ("1e39,0\n2,1\n", {}, "within the range of float32, got 1e+39 in row 0"),
        ('1,2,a\n"3\n4",2,b', {}, "line 3, column 1"),
        ("x,y\n1,2\n", {"label": "z"}, "--label must name one column"),
        ("1,2\n1,2\n", {"label": "z"}, "its columns have no names"),
        ("x,x\n1,2\n", {"label": "x"}, "--label must name one column"),
        ("a,b\n1,2\n", {"header": False}, "'a' is not a number"),
        ("", {}, "there must be rows with two or more columns"),
        ("x,y\n", {}, "there must be rows with two or more columns"),
        ("1\n2\n", {}, "there must be rows with two or more columns"),
        ("1,a\n2,a\n", {}, "two or more classes"),
        ("1,a\n2,b\n", {}, "too few to draw"),
        ("1,0.5\n2,b\n", {}, "too few to draw"),
        ('1,"a\n', {}, "not a text table"),
        (b"\xff\xfe1,2", {}, "not a text table"),
    ],
)
def test_mistakes_in_a_table_are_told_by_line(tmp_path, text, options, words):
    with pytest.raises(ValueError, match=r"data\.csv") as error:
        load(write(tmp_path, text), **options)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": X}, "must have arrays x and y"),
        ({"x": X, "y": Y[:9]}, "y must have shape (50,)"),
        ({"x": X, "y": Y + 0.5}, "y must be classes, whole numbers or words, got"),
        ({"x": X, "y": np.where(Y == 1, np.inf, Y)}, "whole numbers or words, got inf"),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y}, "must have arrays x and y"),
        ({"x_train": X, "y_train": Y, "x_test": X}, "x_valid and y_valid, x_test and y_test)"),
        ({"x_train": X, "y_train": Y, "x_val": X, "y_val": Y}, "got ['x_train', 'x_val'"),
        ({"x": X[:, 0], "y": Y}, "x must be numbers of shape (n, ...)"),
        ({"x": X.astype(str), "y": Y}, "x must be numbers"),
        ({"x": np.where(np.arange(50)[:, None] == 7, np.nan, X), "y": Y}, "in row 7"),
        ({"x": X, "y": Y * 0}, "two or more classes"),
        ({"x": X, "y": np.array([None] * 50)}, "not a file of plain arrays"),
        ({"x_train": X, "y_train": Y, "x_test": X[:, :2], "y_test": Y}, "the same shape"),
        ({"x_train": X, "y_train": Y, "x_test": X, "y_test": Y.astype(str)}, "all words"),
    ],
)
def test_mistakes_in_arrays_are_told(tmp_path, arrays, words):
    with pytest.raises(ValueError, match=r"data\.npz") as error:
        load(save(tmp_path, **arrays))
    assert words in str(error.value)


def test_pickles_are_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path.joinpath("sprung").touch, ())

    path = save(tmp_path, x=np.array([Trap()], dtype=object), y=np.zeros(1))
    with pytest.raises(ValueError, match="not a file of plain arrays"):
        load(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("digit", "data must be digits, mnist, or a file"),
        ("/nowhere/x.csv", "cannot read /nowhere/x.csv: No such file"),
        ("/nowhere/x.npz", "cannot read /nowhere/x.npz: No such file"),
    ],
)
def test_what_is_no_data_is_told(name, words):
    with pytest.raises(ValueError, match=words):
        load(name)


def test_what_is_no_archive_is_told(tmp_path):
    np.save(tmp_path / "one.npy", X)
    for contents in (b"", b"PK\x03\x04broken", b"text", (tmp_path / "one.npy").read_bytes()):
        with pytest.raises(ValueError, match="not a file of plain arrays"):
            load(write(tmp_path, contents, "data.npz"))
