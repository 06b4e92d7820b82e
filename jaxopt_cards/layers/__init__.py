"""Flax NNX modules: the chapter's network."""

from jaxopt_cards.layers._mlp import MLP, he_normal

__all__ = ["MLP", "he_normal"]
