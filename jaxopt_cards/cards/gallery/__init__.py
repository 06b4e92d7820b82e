"""The gallery: for each technique, a function that draws it and returns a title."""

from jaxopt_cards.cards.gallery import (
    images,
    networks,
    paths,
    responses,
    runs,
    steps,
    trees,
    values,
)

DRAWERS = {
    **paths.DRAWERS,
    **responses.DRAWERS,
    **values.DRAWERS,
    **steps.DRAWERS,
    **trees.DRAWERS,
    **networks.DRAWERS,
    **images.DRAWERS,
    **runs.DRAWERS,
}
