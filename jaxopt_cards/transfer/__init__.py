"""Transfer: restore a part of a network, give it a new head, freeze it, cache what is frozen."""

from jaxopt_cards.transfer._features import cache_features
from jaxopt_cards.transfer._freeze import freeze
from jaxopt_cards.transfer._head import replace_head
from jaxopt_cards.transfer._restore import RestoreReport, restore

__all__ = ["RestoreReport", "cache_features", "freeze", "replace_head", "restore"]
