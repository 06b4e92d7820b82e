"""What is public in `jaxopt_cards.cards`: `__init__` and type checkers read it here."""

from ._card import Argument, Card, card, catalogue
from ._describe import describe
from ._description import DescribedStage, Description
from ._doctor import LayerStatistics, layer_statistics
from ._facts import Facts
from ._picture import picture
from ._race import Run, race
from .surfaces import SURFACES, Surface

__all__ = [
    "SURFACES",
    "Argument",
    "Card",
    "DescribedStage",
    "Description",
    "Facts",
    "LayerStatistics",
    "Run",
    "Surface",
    "card",
    "catalogue",
    "describe",
    "layer_statistics",
    "picture",
    "race",
]
