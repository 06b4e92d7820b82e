"""What is public in `jaxopt_cards.cards`: `__init__` and type checkers read it here."""

from .description import DescribedStage, Description
from .facts import Facts
from .pictures import picture
from .racing import Run, race
from .reading import Argument, Card, card, catalogue
from .stages import describe
from .statistics import LayerStatistics, layer_statistics
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
