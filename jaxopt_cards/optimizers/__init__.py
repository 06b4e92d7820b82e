"""The named optimizers: each is the chain that its last lines show."""

from jaxopt_cards.optimizers.adabound import adabound, amsbound
from jaxopt_cards.optimizers.adam import adam, adamw, nadam
from jaxopt_cards.optimizers.adam_variants import adamax, amsgrad, radam
from jaxopt_cards.optimizers.adaptive import adadelta, adagrad, rmsprop
from jaxopt_cards.optimizers.ftrl import ftrl
from jaxopt_cards.optimizers.gradient_descent import momentum, nesterov, sgd

__all__ = [
    "adabound",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "amsbound",
    "amsgrad",
    "ftrl",
    "momentum",
    "nadam",
    "nesterov",
    "radam",
    "rmsprop",
    "sgd",
]
