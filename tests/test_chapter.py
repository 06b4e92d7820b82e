"""The page that lists the chapter item by item: links, figures and verdicts."""

import pytest

ROWS = [
    {"optimizer": "adam", "loss": 0.2, "accuracy": [90.0, 92.0], "at 0.1": "10.5 (1 failed)"},
    {"optimizer": "adamax", "loss": 0.3, "accuracy": [80.0, 82.0], "at 0.1": "never"},
    {"optimizer": "sgd", "labels": "clean", "loss": 0.4},
    {"optimizer": "sgd", "labels": "random", "loss": 0.5},
]


@pytest.fixture
def chapter(pytestconfig, monkeypatch):
    monkeypatch.syspath_prepend(str(pytestconfig.rootpath / "docs"))
    import chapter_page

    return chapter_page


@pytest.fixture
def items(chapter):
    return [item for items in chapter.sections().values() for item in items]


@pytest.fixture
def verdicts(chapter, monkeypatch):
    monkeypatch.setattr(
        chapter.verdicts, "_results", lambda name: {"rows": ROWS, "conclusion": "adam wins."}
    )
    return chapter.verdicts


def place_and_name(link):
    return link.file(), link.name


def test_the_page_is_what_the_table_and_the_results_say(chapter):
    assert chapter.PAGE.read_text() == chapter.page(), "run make pages"


def test_every_link_leads_somewhere(items):
    dead = []
    for link in {link for item in items for link in item.links()}:
        try:
            place_and_name(link)
        except (LookupError, ValueError, AttributeError) as error:
            dead.append(f"{link.kind}:{link.target}: {error}")
    assert not dead


@pytest.mark.parametrize(
    "place",
    [
        "card:adm",
        "card:layers.adam",
        "api:layers.nothing",
        "example:nothing",
        "page:nothing",
        "page:how_to_choose#nothing",
        "test:test_chapter.py::test_nothing",
        "picture:race",
    ],
)
def test_a_dead_link_is_an_error(chapter, place):
    link = chapter.Link(*place.split(":", 1))
    with pytest.raises((LookupError, ValueError)):
        place_and_name(link)


def test_no_item_is_empty_or_listed_twice(chapter, items):
    for item in items:
        assert item.kind in chapter.KINDS, item
        assert item.says, item
        assert item.see or item.missing, item
        assert not (item.partly and item.missing), item
    assert len({item.says for item in items}) == len(items)


def test_each_claim_has_one_verdict_or_says_that_it_has_none(items):
    for item in items:
        ways = [bool(item.rows), bool(item.holds), item.tested]
        if item.kind == "claim" and not (item.partly or item.missing):
            assert sum(ways) == 1, item
            assert item.measured(), item
        else:
            assert item.kind == "claim" or not any(ways[1:]), item
        assert not item.tested or "test:" in item.see, item
        assert bool(item.of) == bool(item.here), item


def test_nearly_all_is_covered(items):
    assert sum(not (item.partly or item.missing) for item in items) >= 195


def test_the_page_has_a_row_for_each_item(chapter, items):
    rows = [line for line in chapter.page(site=True).splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows if row[2].isdigit()] == [
        f"| {number}" for number in range(1, len(items) + 1)
    ]


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("file | adam | loss", 0.2),
        ("file | adama | loss", 0.3),
        ("file | sgd & random | loss", 0.5),
        ("file | adam | accuracy | 1", 92.0),
        ("file | conclusion", "adam wins."),
    ],
)
def test_figures_are_found_by_row_and_column(verdicts, reference, expected):
    assert verdicts.figure(reference) == expected


@pytest.mark.parametrize(
    "reference",
    ["file | ada | loss", "file | sgd | loss", "file | nadam | loss", "file | adam | x"],
)
def test_a_figure_that_is_not_there_or_not_one_is_an_error(verdicts, reference):
    with pytest.raises(LookupError):
        verdicts.figure(reference)


@pytest.mark.parametrize(
    ("comparison", "outcome"),
    [
        ("a > b", "holds"),
        ("b > a", "does not hold here"),
        ("a > 2*b", "does not hold here"),
        ("a < 4*b < 0.5", "does not hold here"),
        ("b < 0.204", "no clear difference"),
        ("b <= 0.196", "holds"),
        ("seeds > other", "no clear difference"),
        ("seeds >= other", "holds"),
        ("far > seeds", "holds"),
        ("failed < 11", "no clear difference"),
        ("never > a > b", "holds"),
        ("a > b and far > seeds", "holds"),
        ("a > b and b > a", "holds in part"),
        ("seeds > other and b > a", "does not hold here"),
    ],
)
def test_verdicts_compare_means_and_heed_their_spread(verdicts, comparison, outcome):
    figures = {
        "a": 0.3,
        "b": 0.2,
        "seeds": [90.0, 92.0],
        "other": [91.0, 91.5],
        "far": [99.0, 99.1],
        "failed": "10.5 (1 failed)",
        "never": "never",
    }
    assert verdicts.verdict(comparison, figures) == outcome


@pytest.mark.parametrize(
    ("holds", "outcome", "sentences"),
    [
        ("yes yes", "holds", "One. Two."),
        ("yes no", "holds in part", "One. Two. The claim does not hold here."),
        ("no no", "does not hold here", "One. Two."),
    ],
)
def test_rows_tell_their_verdict(verdicts, monkeypatch, holds, outcome, sentences):
    failing = {"yes": "", "no": verdicts.FAILING}
    rows = [
        {"of": "claim", "holds": each, "says": said + failing[each]}
        for each, said in zip(holds.split(), ("One.", "Two."), strict=True)
    ]
    monkeypatch.setattr(verdicts, "_results", lambda name: {"rows": rows})
    assert verdicts.told("file | claim") == (outcome, sentences)


def test_figures_are_shown_with_their_spread(verdicts):
    assert verdicts.shown([90.0, 92.0]) == "91.00 ± 1.41"
    assert verdicts.shown(0.23456) == "0.235"
    assert verdicts.shown(91.344) == "91.34"
    assert verdicts.shown(2481.7) == "2,482"
    assert verdicts.shown("10.5 (1 failed)") == "10.5 (1 failed)"
