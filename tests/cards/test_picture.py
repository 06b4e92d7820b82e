"""The gallery: a picture for each card, and what it says is true."""

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

from jaxopt_cards import cards, pictures
from jaxopt_cards.cards.gallery import DRAWERS

# One or two of each kind, and below some more; the docs draw all, and stop where one fails.
SOME = """
adam adaptive_grad_clip max_norm lookahead nesterov_point polyak_average add_l2_sp constant rrelu
select merge_params pack_params leafwise skip_nonfinite reduce_on_plateau EarlyStopping MLP Dropout
unfreeze_schedule fine_tune from_torch from_numpy migrate_state reuse_layers pretrain_rbm digits
"""
# A picture would teach nothing of these.
WITHOUT = {"Checkpointer", "Checkpoints", "Placement", "Zoo", "report"}


def drawn(name):
    """The picture as it comes out, also rendered: some mistakes show only then."""
    with pictures.style():
        figure = Figure(figsize=(4, 3))
        ax = cards.picture(figure.subplots(), name)
        figure.draw_without_rendering()
    return ax


def test_every_card_has_a_picture():
    assert set(DRAWERS) == set(cards.catalogue()) - WITHOUT
    with pytest.raises(ValueError, match="picture: thing must be a technique that has a picture"):
        cards.picture(Figure().subplots(), "report")


@pytest.mark.parametrize("name", SOME.split())
def test_pictures_have_a_short_title_and_something_in_them(name):
    ax = drawn(name)
    assert 0 < len(ax.get_title()) <= 48
    assert ax.lines or ax.patches or ax.images or ax.collections


def curve(ax):
    return np.asarray(ax.lines[0].get_xdata(), float), np.asarray(ax.lines[0].get_ydata(), float)


def test_a_card_is_as_good_as_its_name():
    assert drawn("l1").get_title() == drawn(cards.card("l1")).get_title()


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ValueError, match="adam"):
        cards.picture(Figure().subplots(), "adm")


@pytest.mark.parametrize(
    ("name", "equation"),
    [
        ("proximal_l1", lambda w: np.sign(w) * np.maximum(np.abs(w) - 0.5, 0)),
        ("magnitude_prune", lambda w: w * (np.abs(w) >= 0.5)),
        ("l1", lambda w: 0.1 * np.abs(w)),
        ("add_l1_decay", lambda w: 0.1 * np.sign(w)),
        ("add_decayed_weights", lambda w: 0.1 * w),
        ("margin_ranking_loss", lambda difference: np.maximum(1 - difference, 0)),
    ],
)
def test_curves_are_those_of_the_equations(name, equation):
    x, y = curve(drawn(name))
    away = np.abs(np.abs(x) - 0.5) > 1e-6  # where rounding decides
    np.testing.assert_allclose(y[away], equation(x)[away], atol=1e-6)


def test_clipped_arrows_end_where_the_norm_says():
    gradients = np.array([[1.6, 1.1], [-0.5, 0.6]])
    norm = np.linalg.norm(gradients)
    _, after = drawn("clip_by_global_norm").collections
    np.testing.assert_allclose(np.stack([after.U, after.V], axis=1), gradients / norm, rtol=1e-5)


def test_bytes_of_state_are_those_of_two_moments():
    widths = [patch.get_width() for patch in drawn("compress_state").patches]
    np.testing.assert_allclose(widths, [8, 4, 2], rtol=0.02)


def test_bars_count_the_kept_examples():
    labels = load_digits().target[200:1297]
    _, kept = drawn("per_class").containers
    assert [bar.get_height() for bar in kept] == [20] * 10
    _, kept = drawn("subset").containers
    assert [bar.get_height() for bar in kept] == [
        np.sum(labels == label) if label >= 5 else 0 for label in range(10)
    ]


def test_boxes_say_what_became_of_the_layers():
    texts = [text.get_text() for text in drawn("drop_layers").texts]
    assert texts.count("hidden1\n64 → 30") == 2
    assert texts.count("logits\n10 → 10") == texts.count("logits\n20 → 5") == 1
