"""The gallery: for each technique, a function that draws it and returns a title."""

from importlib import import_module

from jaxopt_cards.cards.gallery.drawing import DRAWERS as DRAWERS

for part in ("paths", "responses", "values", "steps", "trees", "networks", "images", "runs"):
    import_module(f"{__name__}.{part}")
