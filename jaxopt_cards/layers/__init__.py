"""Flax NNX modules: the chapter's network, its layers with noise, initialisers and penalties."""

from flax.nnx import PReLU

from jaxopt_cards.layers._activations import RReLU, rrelu
from jaxopt_cards.layers._dropout import DropConnect, Dropout, Rate
from jaxopt_cards.layers._initializers import (
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    normal,
)
from jaxopt_cards.layers._mlp import MLP
from jaxopt_cards.layers._penalties import elastic_net, l1, l2
from jaxopt_cards.layers._pooling import StochasticPool, stochastic_pool

__all__ = [
    "MLP",
    "DropConnect",
    "Dropout",
    "PReLU",
    "RReLU",
    "Rate",
    "StochasticPool",
    "elastic_net",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "l1",
    "l2",
    "lecun_normal",
    "normal",
    "rrelu",
    "stochastic_pool",
]
