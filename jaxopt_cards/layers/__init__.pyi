"""What is public in `jaxopt_cards.layers`: `__init__` and type checkers read it here."""

from .activations import PReLU, RReLU, rrelu
from .dropout import DropConnect, Dropout, Rate
from .elementwise import elu, leaky_relu, logistic, prelu, relu, selu, tanh
from .initializers import glorot_normal, glorot_uniform, he_normal, he_uniform, lecun_normal, normal
from .mlp import MLP
from .normalization import BatchNorm
from .penalties import elastic_net, l1, l2
from .pooling import StochasticPool, stochastic_pool
from .residual import ResidualMLP

__all__ = [
    "MLP",
    "BatchNorm",
    "DropConnect",
    "Dropout",
    "PReLU",
    "RReLU",
    "Rate",
    "ResidualMLP",
    "StochasticPool",
    "elastic_net",
    "elu",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "l1",
    "l2",
    "leaky_relu",
    "lecun_normal",
    "logistic",
    "normal",
    "prelu",
    "relu",
    "rrelu",
    "selu",
    "stochastic_pool",
    "tanh",
]
