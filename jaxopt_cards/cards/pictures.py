"""A picture for each card."""

from typing import TYPE_CHECKING

from jaxopt_cards.cards.reading import Card, card
from jaxopt_cards.core.declaration import declare
from jaxopt_cards.core.errors import NamedError
from jaxopt_cards.core.optional import optional

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@declare
def picture(ax: "Axes", thing: Card | str) -> "Axes":
    """Draws what a technique does, computed with the technique itself if possible.

    Args:
        ax: the axes to draw into, preferably created with `jaxopt_cards.pictures.style`.
        thing: a card, or the name of a public technique.

    Returns:
        The axes; their title describes the picture.

    Raises:
        ValueError: no public technique has this name, or it has no picture.
        ImportError: matplotlib is not installed.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from jaxopt_cards import cards
        >>> ax = cards.picture(Figure().subplots(), "proximal_l1")
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('weight after the step', 'weight after proximal_l1')
    """
    optional("matplotlib")
    from jaxopt_cards.cards.gallery import DRAWERS

    name = (card(thing) if isinstance(thing, str) else thing).name
    if name not in DRAWERS:
        raise NamedError(f"thing must be a technique that has a picture, got {name}")
    ax.set_title(DRAWERS[name](ax, name))
    return ax
