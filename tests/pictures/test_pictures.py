"""What was given is what is drawn."""

import itertools
import re

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from jaxopt_cards import pictures, schedules, training
from jaxopt_cards.cards.surfaces import SURFACES
from jaxopt_cards.pictures import theme as _style

BOWL = SURFACES["bowl"]


@pytest.fixture(params=["light", "dark"])
def ax(request):
    with pictures.style(dark=request.param == "dark"):
        yield Figure().subplots()


def plain():
    return Figure().subplots()


def history(accuracy):
    accuracy = np.asarray(accuracy, float)
    return training.History(2 - accuracy, 1 - accuracy, accuracy, np.ones(len(accuracy)))


def data_of(line):
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


def names(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def vertices(collection):
    return np.concatenate([path.vertices for path in collection.get_paths()])


curves = arrays(
    float,
    st.tuples(st.integers(2, 4), st.integers(1, 9)),
    elements=st.floats(0, 1, allow_subnormal=False),
)


@settings(deadline=None, max_examples=20)
@given(curves)
def test_learning_curves_are_the_mean_and_a_band_from_least_to_greatest(accuracies):
    ax = pictures.learning_curves(plain(), {"adam": [history(row) for row in accuracies]})
    epochs, mean = data_of(ax.lines[0])
    np.testing.assert_array_equal(epochs, np.arange(1, accuracies.shape[1] + 1))
    np.testing.assert_allclose(mean, 100 * accuracies.mean(axis=0))
    band = vertices(ax.collections[0])
    for epoch, column in zip(epochs, 100 * accuracies.T, strict=True):
        heights = band[band[:, 0] == epoch, 1]
        np.testing.assert_allclose([heights.min(), heights.max()], [column.min(), column.max()])


def test_runs_that_go_on_alone_are_drawn_as_themselves(ax):
    runs = {"adam": [history([0.5, 0.6]), history([0.7, 0.8, 0.9])]}
    mean, rest = pictures.learning_curves(ax, runs, "valid_loss").lines
    np.testing.assert_allclose(data_of(mean), [[1, 2], [0.4, 0.3]])
    np.testing.assert_allclose(data_of(rest), [[2, 3], [0.2, 0.1]])
    assert ax.get_yscale() == "log"
    assert rest.get_color() == mean.get_color()


def test_each_name_has_a_line_and_its_place_in_the_legend(ax):
    runs = {name: [history([0.1, 0.2])] for name in ("sgd", "adam", "rmsprop")}
    pictures.learning_curves(ax, runs)
    assert names(ax) == list(runs)
    assert ax.get_ylabel() == "validation accuracy, %"


def test_schedules_are_their_values(ax):
    curve = schedules.exponential_decay(0.1, 10, 0.5)
    pictures.schedules(ax, {"decay": curve, "cosine": schedules.cosine_decay_schedule(0.1, 20)}, 30)
    steps, values = data_of(ax.lines[0])
    np.testing.assert_array_equal(steps, np.arange(30))
    np.testing.assert_allclose(values, 0.1 * 0.5 ** (np.arange(30) / 10), rtol=1e-6)
    np.testing.assert_allclose(ax.lines[1].get_ydata()[20:], 0, atol=1e-9)


def test_zeros_stand_at_the_edge_of_a_logarithmic_axis(ax):
    pictures.by_layer(ax, {"relu": np.array([0.0, 1e-3, 1.0])}, "norm")
    drawn, zeros = ax.lines
    np.testing.assert_array_equal(data_of(drawn)[1], [np.nan, 1e-3, 1.0])
    assert data_of(zeros)[0].tolist() == [1]
    assert zeros.get_transform() == ax.get_xaxis_transform()
    assert ax.get_yscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("layer", "norm")


def test_gradient_norms_have_their_steps_and_colours_in_order(ax):
    norms = {f"hidden{index}": np.full(3, 10.0**-index) for index in range(5)}
    pictures.gradient_norms(ax, norms, steps=[0, 10, 20])
    assert names(ax) == list(norms)
    for line, values in zip(ax.lines, norms.values(), strict=True):
        np.testing.assert_array_equal(data_of(line), [[0, 10, 20], values])
    lightness = [np.dot(to_rgb(line.get_color()), [0.299, 0.587, 0.114]) for line in ax.lines]
    assert np.all(np.diff(lightness) > 0.02)


@settings(deadline=None, max_examples=20)
@given(arrays(np.float32, (2, 40), elements=st.floats(-10, 10, width=32)))
def test_histograms_are_those_of_numpy_on_shared_bins(values):
    ax = pictures.activation_histograms(plain(), {"hidden1": values[0], "logits": values[1:]})
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["hidden1", "logits"]
    edges = ax.patches[0].get_data().edges
    for row, (flat, patch) in enumerate(zip(values, ax.patches[::2], strict=True)):
        counts, _ = np.histogram(flat.astype(float), edges)
        drawn = patch.get_data()
        np.testing.assert_array_equal(drawn.edges, edges)
        assert counts.sum() == flat.size
        np.testing.assert_allclose(drawn.values, row + 0.85 * counts / counts.max())


def test_sparsity_is_in_percent(ax):
    pictures.sparsity(ax, {"pruned": np.array([[0.5, 98.0], [0.9, 96.0]]), "l1": [[0.3, 97.0]]})
    np.testing.assert_array_equal(data_of(ax.lines[0]), [[50, 90], [98, 96]])
    assert names(ax) == ["pruned", "l1"]
    assert ax.get_xlabel() == "weights that are zero, %"


@pytest.mark.parametrize("name", SURFACES)
def test_contours_have_the_surface_s_bounds_and_minima(name):
    surface = SURFACES[name]
    ax = pictures.contours(plain(), surface)
    assert (ax.get_xlim(), ax.get_ylim()) == surface.bounds
    stars = [tuple(line.get_xydata()[0]) for line in ax.lines]
    assert stars == list(surface.minima)


def test_contours_join_points_of_the_same_height(ax):
    pictures.contours(ax, BOWL)
    lines = ax.collections[-1]
    for level, path in list(zip(lines.levels, lines.get_paths(), strict=True))[1:-1]:
        x, y = path.vertices.T
        np.testing.assert_allclose(0.5 * (x**2 + 2 * y**2), level, rtol=0.02, atol=1e-3)


def test_paths_go_through_their_points_and_are_cut_where_they_leave(ax):
    way = np.array([[-1.0, 1.0], [0.5, 0.5], [1e30, 0.0], [np.nan, 0.0]])
    pictures.paths(ax, BOWL, {"wild": way, "calm": way[:2]})
    wild, calm = (line for line in ax.lines if line.get_label() in ("wild", "calm"))
    np.testing.assert_array_equal(wild.get_xydata()[:2], way[:2])
    assert np.isnan(wild.get_xydata()[2:]).all()
    np.testing.assert_array_equal(calm.get_xydata(), way[:2])
    assert names(ax) == ["wild", "calm"]
    ax.figure.canvas.draw()  # nothing overflows


def test_heights_are_those_of_the_surface(ax):
    way = np.array([[-1.0, 1.0], [0.5, 0.5], [0.0, 0.0]])
    pictures.heights(ax, BOWL, {"calm": way})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [1.5, 0.375, np.nan])


def test_a_sheet_has_a_row_for_each_image_and_a_column_for_each_version(ax):
    originals = np.arange(3 * 16.0).reshape(3, 16)
    versions = [originals + 1, originals + 2]
    pictures.augmentation_sheet(ax, originals, versions)
    drawn = [np.asarray(image.get_array()).ravel() for image in ax.images]
    np.testing.assert_array_equal(drawn, np.concatenate([originals, *versions]))
    columns = {round(image.get_extent()[0], 6) for image in ax.images}
    assert (len(columns), len({image.get_extent()[2] for image in ax.images})) == (3, 3)


@pytest.mark.parametrize(("most", "shown"), [(20, 3), (2, 2)])
def test_only_what_is_wrong_is_shown(ax, most, shown):
    images = np.arange(5)[:, None, None] * np.ones((5, 4, 4))
    labels, guesses = np.array([0, 1, 2, 0, 1]), np.array([0, 2, 2, 1, 0])
    pictures.misclassified(ax, images, labels, guesses, ["cat", "dog", "cow"], most)
    texts = [text.get_text() for text in ax.texts]
    assert texts == ["dog → cow", "cat → dog", "dog → cat"][:shown]
    values = [float(np.asarray(image.get_array()).max()) for image in ax.images]
    assert values == [1.0, 3.0, 4.0][:shown]
    assert ax.get_title().startswith("3 of 5 are wrong")
    assert ("first 2" in ax.get_title()) == (most == 2)
    assert len(ax.patches) == shown
    for frame in ax.patches:  # a line on the very edge would be cut in half
        for axis in (0, 1):
            low, high = sorted(ax.viewLim.get_points()[:, axis])
            assert low < frame.get_bbox().min[axis] < frame.get_bbox().max[axis] < high


def test_nothing_wrong_is_a_picture_as_well(ax):
    pictures.misclassified(ax, np.zeros((2, 4, 4)), [0, 1], [0, 1])
    assert ax.get_title().startswith("0 of 2 are wrong")
    assert not ax.images


@settings(deadline=None, max_examples=20)
@given(arrays(int, (2, 30), elements=st.integers(0, 4)))
def test_a_confusion_matrix_counts(pairs):
    labels, guesses = pairs
    classes = list("abcde")
    ax = pictures.confusion_matrix(plain(), labels, guesses, classes)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == classes
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("guess", "class")
    drawn = {tuple(map(int, text.get_position())): int(text.get_text()) for text in ax.texts}
    cells = [(guess, label) for label in range(5) for guess in range(5)]
    counts = {(g, c): int(np.sum((labels == c) & (guesses == g))) for g, c in cells}
    assert drawn == {cell: count for cell, count in counts.items() if count}
    shades = np.asarray(ax.images[0].get_array())
    most = max([count for (g, c), count in counts.items() if g != c] + [1])
    for (g, c), count in counts.items():
        assert shades[c, g] == (0 if g == c else count / most)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda ax: pictures.learning_curves(ax, {}), "learning_curves: runs must be a mapping"),
        (
            lambda ax: pictures.learning_curves(ax, {"a": history([1.0])}),
            "learning_curves: runs['a'] must be a sequence of histories",
        ),
        (
            lambda ax: pictures.learning_curves(ax, {"a": [history([1.0])]}, "loss"),
            "learning_curves: quantity must be one of",
        ),
        (lambda ax: pictures.schedules(ax, {"a": 0.1}, 9), "curves['a'] must be a function"),
        (
            lambda ax: pictures.schedules(ax, {"a": lambda step: 0.1}, 0),
            "schedules: steps must be a whole number >= 1, got 0",
        ),
        (lambda ax: pictures.by_layer(ax, {"a": [-1.0]}, ""), "profiles['a'] must be >= 0"),
        (lambda ax: pictures.by_layer(ax, {"a": []}, ""), "must be numbers of shape (layers,)"),
        (
            lambda ax: pictures.gradient_norms(ax, {"a": [1.0, 2.0]}, steps=[1]),
            "norms['a'] must have 1 numbers, as many as steps, got '2'",
        ),
        (
            lambda ax: pictures.activation_histograms(ax, {"a": [np.nan]}),
            "activations['a'] must be finite",
        ),
        (lambda ax: pictures.sparsity(ax, {"a": [[50.0, 90.0]]}), "fractions of zeros in [0, 1]"),
        (
            lambda ax: pictures.sparsity(ax, {"a": [[0.5, 90.0, 1.0]]}),
            "must be numbers of shape (points, 2), got 'float64 of shape (1, 3)'",
        ),
        (
            lambda ax: pictures.paths(ax, BOWL, {"a": [[["x"]]]}),
            "paths: paths['a'] must be numbers of shape (steps + 1, 2)",
        ),
        (
            lambda ax: pictures.augmentation_sheet(ax, np.zeros((1, 4)), [np.zeros((2, 4))]),
            "versions[0] must have the shape of originals",
        ),
        (
            lambda ax: pictures.augmentation_sheet(ax, np.zeros((1, 5)), []),
            "augmentation_sheet: originals must have shape (images, height, width)",
        ),
        (
            lambda ax: pictures.misclassified(ax, np.zeros((1, 4)), [0], [1], ["one"]),
            "misclassified: classes must name at least 2 classes",
        ),
        (
            lambda ax: pictures.misclassified(ax, np.zeros((2, 4)), [0], [1]),
            "labels must have 2 elements",
        ),
        (lambda ax: pictures.confusion_matrix(ax, [0, 1], [0]), "guesses must have 2 elements"),
        (lambda ax: pictures.confusion_matrix(ax, [0.5], [0]), "labels must be whole numbers"),
        (lambda ax: pictures.confusion_matrix(ax, [-1], [0]), "labels must be whole numbers"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw(plain())


def test_the_style_ends_with_its_block():
    before = dict(matplotlib.rcParams)
    with pictures.style(dark=True):
        assert matplotlib.rcParams["figure.facecolor"] != before["figure.facecolor"]
    assert dict(matplotlib.rcParams) == before


def brightness(colour):
    """As the eye has it: WCAG's relative luminance."""
    channels = np.asarray(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    lighter, darker = sorted([brightness(one), brightness(other)], reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_words_and_lines_stand_out_from_the_background(ax):
    background = ax.get_facecolor()
    assert contrast(_style.ink(ax), background) > 10
    assert min(contrast(_style.colour(ax, index), background) for index in range(7)) > 1.9


def test_axes_without_a_background_show_that_of_the_figure():
    ax = Figure(facecolor="white").subplots()
    ax.set_facecolor("none")
    assert contrast(_style.ink(ax), "white") > 10


def test_the_first_35_lines_differ_in_grey_or_in_colour(ax):
    looks = [_style.line(ax, index) for index in range(35)]
    assert len({(look["color"], str(look["linestyle"])) for look in looks}) == 35
    styles = [str(look["linestyle"]) for look in looks]
    assert all(one != other for one, other in itertools.pairwise(styles))
