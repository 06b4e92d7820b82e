"""Text from files is shown escaped: no control character, forged line or surrogate gets through.

A place is a function of a text that returns what users see. Each gets each nasty text.
"""

import io
import json
import re
import zipfile

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from matplotlib.figure import Figure

from jaxopt_cards import cli as _cli
from jaxopt_cards import layers, pictures, selection, training, transfer
from jaxopt_cards.cards import tables as _tables
from jaxopt_cards.cli import terminal as _terminal
from jaxopt_cards.core.checks import LINE, HyperparameterError, escaped, shown
from jaxopt_cards.reports import page as _page
from jaxopt_cards.storage import arrays as _stored
from jaxopt_cards.training import History

NASTY = {
    "a colour": "a\x1b[31mred",
    "a forged line": "a\ntaken    logits/kernel",
    "an overwritten line": "a\rtaken    logits/kernel",
    "a title of the window": "a\x1b]0;title\x07",
    "eight-bit control": "a\x9b31m",
    "a zero byte": "a\0b",
    "a turn of direction": "a\u202egnp.exe",
    "no width": "a\u200bb\ufeff",
    "a line separator": "a\u2028b\x85c",
    "half a surrogate pair": "a\ud800",
    "markup": "a<script>[red]$x^$",
    "length": "a" * 100_000,
}
ODD_BUT_FINE = ["größe/Ядро/核/κέρνελ", "café", "שלום", "a b", r"C:\temp", "50 %", "😀"]


def is_shown(text, lines=1):
    """Whether a terminal shows the text and does nothing else, in so many lines."""
    *parts, last = text.split("\n")
    assert len(parts) < lines, text
    assert all(part.isprintable() for part in (*parts, last)), ascii(text)
    assert len(text) < 2_000 * lines
    text.encode()


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_nothing_that_a_terminal_obeys_is_left(text):
    is_shown(escaped(text))
    is_shown(shown({text: text}))
    assert escaped(escaped(text)) == escaped(text)


@pytest.mark.parametrize("text", ODD_BUT_FINE)
def test_letters_of_all_languages_are_kept(text):
    assert escaped(text) == text


def test_the_beginning_and_the_end_of_a_long_text_are_kept():
    text = escaped("begin" + "x" * 10_000 + "end")
    assert text.startswith("beginx")
    assert text.endswith("xend")
    assert len(text) <= LINE + 3
    assert escaped("x" * LINE) == "x" * LINE


def test_lines_are_kept_where_they_are_wanted():
    assert escaped("a\n\tb\x1b", lines=True) == "a\n\tb\\x1b"


# What shows text that comes from a file: a function of the text and a folder.


def npz(path, names):
    """An archive; a zip file cannot have a name with half a surrogate pair."""
    names = [name.encode("utf-8", "replace").decode() for name in names]
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            stream = io.BytesIO()
            np.save(stream, np.ones(2, "float32"))
            archive.writestr(f"{name}.npy", stream.getvalue())
    return path


def error_of(call, *args, **kwargs):
    with pytest.raises((ValueError, OSError)) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def name_of_an_array(text, folder):
    return error_of(transfer.from_numpy, npz(folder / "net.npz", ["a", f"a/{text[:50_000]}"]))


def name_in_safetensors(text, folder):
    contents = safetensors.numpy.save({"a": np.ones(2, "float32")})
    length = int.from_bytes(contents[:8], "little")
    header = json.loads(contents[8 : 8 + length])
    header = {text: header["a"] | {"dtype": text}, "a/b": header["a"]}
    packed = json.dumps(header).encode()
    path = folder / "net.safetensors"
    path.write_bytes(len(packed).to_bytes(8, "little") + packed + contents[8 + length :])
    return error_of(transfer.from_safetensors, path)


def name_of_a_file(text, folder):
    return error_of(transfer.from_numpy, folder / text)


def name_of_a_folder(text, folder):
    return error_of(transfer.Zoo(folder / text[:200]).card, "net"), 2


def name_of_a_checkpoint_dir(text, folder):
    return error_of(transfer.restore, {"a": np.ones(2)}, folder / text[:200])


def a_report_of_restore(text, folder):
    saved = {"a": np.ones(2, "float32"), text: np.ones(2, "float32")}
    _, report = transfer.restore({"a": np.zeros(2, "float32")}, saved)
    return str(report), 2


def a_report_of_what_was_taken(text, folder):
    params = {"a": np.ones(2, "float32")}
    _, report = transfer.restore(params, {text: np.ones(2, "float32")}, rename={"^a$": _raw(text)})
    return str(report)


def a_report_of_what_was_refused(text, folder):
    saved = {"a": np.ones(2, "float32"), text: np.ones(2, "float32")}
    params = {"a": np.ones(2, "float32"), text: np.ones(3, "float32")}
    return str(transfer.restore(params, saved)[1]), 3


def an_error_of_restore(text, folder):
    return error_of(transfer.restore, {"a": np.ones(2)}, {text: np.ones(2)}), 6


def a_list_of_paths(text, folder):
    return selection.listed([text]), 2


def an_identity(text, folder):
    return selection.listed(_stored.differences({text: text}, {})), 2


def a_hyperparameter(text, folder):
    return str(HyperparameterError("a", "be a number", text))


def a_card_of_a_zoo(text, folder):
    zoo = transfer.Zoo(folder)
    zoo.store("net", layers.MLP(2, 2, units=(2,), rngs=nnx.Rngs(0)), data="d", accuracy=1.0)
    path = folder / "net" / "card.json"
    fields = json.loads(path.read_text())
    fields[text] = text
    path.write_text(json.dumps(fields))
    with pytest.warns(RuntimeWarning, match="cannot be read") as told:
        assert zoo.list() == []
    return "\n".join([error_of(zoo.load, "net"), str(told[0].message)]), 3


def a_table_of_numbers(text, folder):
    path = folder / "table.csv"
    quoted = text.replace('"', '""').encode("utf-8", "replace").decode()
    path.write_text(f'"{quoted}","b"\n1,x\ny,z\n', encoding="utf-8", newline="")
    return error_of(_tables.load, str(path))


PLACES = [
    name_of_an_array,
    name_in_safetensors,
    name_of_a_file,
    name_of_a_folder,
    name_of_a_checkpoint_dir,
    a_report_of_restore,
    a_report_of_what_was_taken,
    a_report_of_what_was_refused,
    an_error_of_restore,
    a_list_of_paths,
    an_identity,
    a_hyperparameter,
    a_card_of_a_zoo,
    a_table_of_numbers,
]


def _raw(text):
    """The text as the replacement of a regular expression."""
    return text.replace("\\", r"\\")


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_every_place_shows_it_escaped(place, text, tmp_path):
    found = place(text, tmp_path)
    is_shown(*(found if isinstance(found, tuple) else (found,)))


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_the_command_line_shows_it_escaped(text, capsys):
    with pytest.raises(SystemExit):
        _cli._end(text[:100].replace("\n", " "))
    _terminal.tell(text)
    output = capsys.readouterr()
    is_shown(output.err.removesuffix("\n"))
    is_shown(output.out.removesuffix("\n"))


HISTORY = History(*(np.array([0.5, 0.25]) for _ in History._fields))
EYE = np.eye(8)[None].repeat(3, axis=0)
DRAWN = {
    "learning_curves": lambda ax, text: pictures.learning_curves(
        ax, {text: [HISTORY], "b": [HISTORY]}
    ),
    "schedules": lambda ax, text: pictures.schedules(
        ax, {text: lambda step: step, "b": lambda step: step}, 3, label="x"
    ),
    "gradient_norms": lambda ax, text: pictures.gradient_norms(ax, {text: [1, 2], "b": [1, 2]}),
    "by_layer": lambda ax, text: pictures.by_layer(ax, {text: [1, 2], "b": [1, 2]}, "x"),
    "histograms": lambda ax, text: pictures.activation_histograms(ax, {text: [1, 2]}),
    "sparsity": lambda ax, text: pictures.sparsity(ax, {text: [[0, 1]], "b": [[0, 1]]}),
    "confusion_matrix": lambda ax, text: pictures.confusion_matrix(
        ax, [0, 1], [1, 1], [text, text]
    ),
    "misclassified": lambda ax, text: pictures.misclassified(
        ax, EYE, [0, 1, 1], [1, 1, 0], [text, text]
    ),
}


@pytest.mark.parametrize("picture", DRAWN)
@pytest.mark.parametrize("text", [*NASTY.values(), "50 $ to $", r"$\frac{$"], ids=ascii)
def test_pictures_show_names_as_they_are(picture, text):
    figure = Figure()
    ax = figure.subplots()
    DRAWN[picture](ax, text[:50])
    figure.savefig(io.BytesIO(), format="svg")


@pytest.mark.parametrize("text", NASTY.values(), ids=NASTY)
def test_a_page_holds_any_text(text, tmp_path):
    text = text[:1000]
    path = training.report(
        None,
        tmp_path / "report.html",
        title=text,
        text=text,
        settings={text: text},
        tables={text: [{text: text}]},
        command=text,
    )
    page = path.read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u202e\ufeff]", page)
    assert "<script" not in page
    assert _page.escape("a\ud800 <b>") == "a\\ud800 &lt;b&gt;"
