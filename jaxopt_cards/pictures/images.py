"""Pictures of images, and of a model's predictions for them."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from jaxopt_cards.core.checks import HyperparameterError
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.data.examples import confusion_counts
from jaxopt_cards.pictures.inputs import classes_of, square_images
from jaxopt_cards.pictures.theme import colour, ink, paper, plain, tones


@declare
def augmentation_sheet(ax: Axes, originals: Any, versions: Any) -> Axes:
    """Draws a row for each image: the original at the left, then its augmented versions.

    Args:
        ax: the axes to draw into.
        originals: array of shape (images, height, width), or (images, pixels) of square images.
        versions: one array like `originals` for each version.

    Raises:
        ValueError: arrays have other shapes.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> originals = np.eye(8)[None]
        >>> ax = pictures.augmentation_sheet(Figure().subplots(), originals, [originals[:, ::-1]])
        >>> len(ax.images)
        2
    """
    left = square_images("originals", originals)
    columns = [left]
    for index, version in enumerate(versions):
        argument = f"versions[{index}]"
        images = square_images(argument, version)
        if images.shape != left.shape:
            expected = f"have the shape of originals, {left.shape}"
            raise HyperparameterError(argument, expected, images.shape)
        columns.append(images)
    if len(columns) == 1:
        raise HyperparameterError("versions", "have at least one", versions)
    for column, images in enumerate(columns):
        # A gap separates the originals from their versions.
        at = column * 1.1 + 0.3 * (column > 0)
        for row, image in enumerate(images):
            draw_tile(ax, image, at, row * 1.1)
    ax.text(0.5, -0.15, "original", ha="center", fontsize=9)
    ax.text(0.85 + 0.55 * len(columns), -0.15, "versions", ha="center", fontsize=9)
    return sheet(ax, len(columns) * 1.1 + 0.2, len(left) * 1.1 - 0.1, above=0.5)


@declare
def misclassified(
    ax: Axes,
    images: Any,
    labels: Any,
    guesses: Any,
    classes: Sequence[str] | None = None,
    most: Annotated[int, "[1, inf)"] = 20,
) -> Axes:
    """Draws the misclassified images, each with its class and the prediction.

    Shows the first `most` of them, ten per line, in the given order.

    Args:
        ax: the axes to draw into.
        images: array of shape (images, height, width), or (images, pixels) of square images.
        labels: integers of shape (images,): the class of each image.
        guesses: integers of shape (images,): the predicted class of each image.
        classes: names of the classes. Default: their numbers.
        most: the number of images to show.

    Raises:
        ValueError: arrays have other shapes, a class has no name, or `most` is not above 0.

    Example:
        >>> import numpy as np
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> images = np.zeros((3, 8, 8))
        >>> ax = pictures.misclassified(Figure().subplots(), images, [1, 2, 3], [1, 7, 3])
        >>> ax.get_title(), [text.get_text() for text in ax.texts]
        ('1 of 3 are wrong: class → guess', ['2 → 7'])
    """
    images = square_images("images", images)
    labels, guesses, names = classes_of(labels, guesses, classes)
    if len(images) != len(labels):
        raise HyperparameterError("labels", f"have {len(images)} elements", len(labels))
    wrong = np.flatnonzero(labels != guesses)
    shown = wrong[:most]
    texts = [plain(f"{names[labels[row]]} → {names[guesses[row]]}") for row in shown]
    some = f", the first {most}" if len(wrong) > most else ""
    ax.set_title(f"{len(wrong)} of {len(labels)} are wrong{some}: class → guess")
    return tiles(ax, images[shown], texts, max(min(len(shown), 10), 1))


@declare
def confusion_matrix(
    ax: Axes, labels: Any, guesses: Any, classes: Sequence[str] | None = None
) -> Axes:
    """Draws the number of examples by class (rows) and prediction (columns).

    Cells with more mistakes are darker (on a dark background, lighter). The diagonal, which has the
    correct predictions, is framed instead, since its shade would hide that of the mistakes.

    Args:
        ax: the axes to draw into.
        labels: integers of shape (examples,): the class of each example.
        guesses: integers of shape (examples,): the prediction for each example.
        classes: names of the classes. Default: their numbers.

    Raises:
        ValueError: arrays have other shapes, or a class has no name.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import pictures
        >>> ax = pictures.confusion_matrix(Figure().subplots(), [0, 0, 1], [0, 1, 1])
        >>> [text.get_text() for text in ax.texts]
        ['1', '1', '1']
    """
    labels, guesses, names = classes_of(labels, guesses, classes)
    counts = confusion_counts(labels, guesses, len(names))
    mistakes = np.where(np.eye(len(names), dtype=bool), 0, counts)
    share = mistakes / max(mistakes.max(), 1)
    ax.imshow(share, cmap=tones(ax), vmin=0, vmax=1)
    for row, column in np.argwhere(counts):
        # The text must be readable on the shade of its cell.
        text = paper(ax) if share[row, column] > 0.5 else ink(ax)
        cell: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": text}
        ax.text(column, row, str(counts[row, column]), **cell)
    places = np.arange(len(names))
    for place in places:
        corner = (place - 0.5, place - 0.5)
        frame = Rectangle(corner, 1, 1, fill=False, linewidth=1.2, edgecolor=colour(ax, 0))
        ax.add_patch(frame)
    shown = list(map(plain, names))
    ax.set_xticks(places, shown)
    ax.set_yticks(places, shown)
    ax.tick_params(length=0)
    ax.set(xlabel="guess", ylabel="class")
    return ax


def tiles(ax: Axes, images: np.ndarray, texts: Iterable[str], columns: int) -> Axes:
    """Lines of images, each with its text above."""
    for place, (image, text) in enumerate(zip(images, texts, strict=True)):
        x, y = place % columns * 1.15, place // columns * 1.5
        draw_tile(ax, image, x, y)
        ax.text(x + 0.5, y - 0.06, text, ha="center", va="bottom", fontsize=8)
    lines = -(-len(images) // columns)
    return sheet(ax, columns * 1.15 - 0.15, max(lines * 1.5 - 0.5, 1.0), above=0.4)


def draw_tile(ax: Axes, image: np.ndarray, x: float, y: float) -> None:
    """Draws an image as a unit square with its upper left corner at (x, y); 1 is dark."""
    low, high = min(image.min(), 0.0), max(image.max(), 1.0)
    shade = {"cmap": tones(ax), "vmin": low, "vmax": high, "interpolation": "nearest"}
    ax.imshow(image, extent=(x, x + 1, y + 1, y), **shade)
    border = Rectangle((x, y), 1, 1, fill=False, linewidth=0.4, edgecolor=ink(ax), alpha=0.4)
    ax.add_patch(border)


def sheet(ax: Axes, width: float, height: float, above: float) -> Axes:
    """Hides the axes, and makes room for the texts and the frames of the images."""
    ax.set(xlim=(-0.05, width + 0.05), ylim=(height + 0.05, -above), aspect="equal")
    ax.set_axis_off()
    return ax
