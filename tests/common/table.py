"""One table of all optimizers; the laws in this folder run over it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import optax

import jaxopt_cards as jc
from tests import references


@dataclass(frozen=True)
class Case:
    """An optimizer, what to compare it with, and what it can do."""

    name: str
    make: Callable[..., Any]  # learning rate -> transformation
    optax: Callable[..., Any]  # the same of Optax
    reference: Callable[..., Any]  # the same in NumPy float64
    bowl_rate: float = 0.1  # a rate at which it reaches the minimum of a bowl
    needs_params: bool = False
    scale_free: bool = False  # the path does not depend on the gradients' scale


CASES = [
    Case("sgd", jc.sgd, optax.sgd, references.sgd),
    Case("momentum", jc.momentum, partial(optax.sgd, momentum=0.9), references.momentum, 0.03),
    Case(
        "nesterov",
        jc.nesterov,
        partial(optax.sgd, momentum=0.9, nesterov=True),
        references.nesterov,
        0.03,
    ),
    Case(
        "sgd with momentum 0.5",
        partial(jc.sgd, momentum=0.5),
        partial(optax.sgd, momentum=0.5),
        partial(references.momentum, beta=0.5),
    ),
    Case("rmsprop", jc.rmsprop, optax.rmsprop, references.rmsprop, 0.05),
    Case(
        "rmsprop, eps outside",
        partial(jc.rmsprop, decay=0.99, eps=1e-3, eps_in_sqrt=False),
        partial(optax.rmsprop, decay=0.99, eps=1e-3, eps_in_sqrt=False),
        partial(references.rmsprop, beta=0.99, eps=1e-3, outside=True),
        0.05,
    ),
    Case(
        "rmsprop, centered",
        partial(jc.rmsprop, centered=True, eps=1e-3),
        partial(optax.rmsprop, centered=True, eps=1e-3),
        partial(references.centered_rmsprop, eps=1e-3),
        0.003,
    ),
    Case("adam", jc.adam, optax.adam, references.adam, scale_free=True),
    Case(
        "adam, odd values",
        partial(jc.adam, b1=0.5, b2=0.7, eps=1e-2),
        partial(optax.adam, b1=0.5, b2=0.7, eps=1e-2),
        partial(references.adam, b1=0.5, b2=0.7, eps=1e-2),
    ),
    Case(
        "nadam",
        partial(jc.adam, nesterov=True),
        partial(optax.adam, nesterov=True),
        references.nadam,
        scale_free=True,
    ),
    Case(
        "adamw",
        partial(jc.adamw, weight_decay=0.01),
        partial(optax.adamw, weight_decay=0.01),
        partial(references.adam, decay=0.01),
        needs_params=True,
    ),
]
