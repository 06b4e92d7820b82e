"""One table of all optimizers; the laws in this folder run over it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import optax

import jaxopt_cards as jc
from jaxopt_cards.core.declaration import declaration_of
from tests import references


@dataclass(frozen=True)
class Case:
    """An optimizer, what to compare it with, and what it can do."""

    name: str
    make: Callable[..., Any]  # learning rate -> transformation
    optax: Callable[..., Any] | None  # the same of Optax, where Optax has it
    reference: Callable[..., Any] | None  # the same in NumPy float64
    bowl_rate: float = 0.1  # a rate at which it reaches the minimum of a bowl
    scale_free: bool = False  # the path does not depend on the gradients' scale
    valley_rate: float | None = None  # a rate at which it reaches the end of Rosenbrock's valley
    falling_rate: bool = True  # a learning rate that falls helps it to settle
    decays: bool = False  # has a decay that the function's default has not, so it needs parameters

    @property
    def declared(self):
        """What the public function declares, by which the name begins."""
        return declaration_of(getattr(jc, re.split("[ ,]", self.name)[0]))

    @property
    def needs_params(self):
        """Whether it needs the parameters."""
        return self.declared.needs_params or self.decays


def adabound_of_the_survey(rate):
    """Its clipped rate is divided by the root of the step."""

    def falling(count):
        root = jnp.sqrt(jnp.asarray(count + 1, float))
        return (rate(count) if callable(rate) else rate) / root

    return jc.adabound(falling, final_scale=1.0, bias_correction=False)


FTRL = {"falling_rate": False}

CASES = [
    Case("sgd", jc.sgd, optax.sgd, references.sgd, valley_rate=3e-3),
    Case(
        "momentum",
        jc.momentum,
        partial(optax.sgd, momentum=0.9),
        references.momentum,
        0.03,
        valley_rate=3e-4,
    ),
    Case(
        "nesterov",
        jc.nesterov,
        partial(optax.sgd, momentum=0.9, nesterov=True),
        references.nesterov,
        0.03,
        valley_rate=3e-4,
    ),
    Case(
        "sgd with momentum 0.5",
        partial(jc.sgd, momentum=0.5),
        partial(optax.sgd, momentum=0.5),
        partial(references.momentum, beta=0.5),
    ),
    Case("rmsprop", jc.rmsprop, optax.rmsprop, references.rmsprop, 0.05, valley_rate=3e-3),
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
    Case("adam", jc.adam, optax.adam, references.adam, scale_free=True, valley_rate=0.02),
    Case(
        "adam, odd values",
        partial(jc.adam, b1=0.5, b2=0.7, eps=1e-2),
        partial(optax.adam, b1=0.5, b2=0.7, eps=1e-2),
        partial(references.adam, b1=0.5, b2=0.7, eps=1e-2),
    ),
    Case(
        "adam with nesterov",
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
    ),
    Case("nadam", jc.nadam, optax.nadam, references.nadam, scale_free=True, valley_rate=0.02),
    Case("adagrad", jc.adagrad, optax.adagrad, references.adagrad, 2.0),
    Case(
        "adagrad, odd values",
        partial(jc.adagrad, initial_accumulator_value=2.0, eps=1e-2),
        partial(optax.adagrad, initial_accumulator_value=2.0, eps=1e-2),
        partial(references.adagrad, start=2.0, eps=1e-2),
        2.0,
    ),
    Case("adadelta", jc.adadelta, optax.adadelta, references.adadelta, 20.0, valley_rate=0.1),
    Case(
        "adadelta with decay",
        partial(jc.adadelta, rho=0.8, eps=1e-4, weight_decay=0.01),
        partial(optax.adadelta, rho=0.8, eps=1e-4, weight_decay=0.01),
        partial(references.adadelta, rho=0.8, eps=1e-4, decay=0.01),
        5.0,
        decays=True,
    ),
    Case("adamax", jc.adamax, optax.adamax, references.adamax, scale_free=True, valley_rate=0.05),
    Case(
        "adamax, odd values",
        partial(jc.adamax, b1=0.5, b2=0.9, eps=1e-2),
        partial(optax.adamax, b1=0.5, b2=0.9, eps=1e-2),
        partial(references.adamax, b1=0.5, b2=0.9, eps=1e-2),
    ),
    Case(
        "amsgrad", jc.amsgrad, optax.amsgrad, references.amsgrad, scale_free=True, valley_rate=1.0
    ),
    Case(
        "amsgrad of the paper",
        partial(jc.amsgrad, b2=0.9, bias_correction_mu=False, bias_correction_nu=False),
        partial(optax.amsgrad, b2=0.9, bias_correction_mu=False, bias_correction_nu=False),
        partial(references.amsgrad, b2=0.9, corrected=False),
        0.5,
    ),
    Case("radam", jc.radam, optax.radam, references.radam),
    Case(
        "radam, odd values",
        partial(jc.radam, b1=0.5, b2=0.9, eps=1e-2, threshold=6.0),
        partial(optax.radam, b1=0.5, b2=0.9, eps=1e-2, threshold=6.0),
        partial(references.radam, b1=0.5, b2=0.9, eps=1e-2, threshold=6.0),
    ),
    Case("adabound", jc.adabound, None, references.adabound, 0.01, valley_rate=3e-4),
    Case(
        "adabound, odd values",
        partial(jc.adabound, final_scale=2.0, gamma=0.1, b1=0.5, b2=0.9, eps=1e-2),
        None,
        partial(references.adabound, final=2.0, gamma=0.1, b1=0.5, b2=0.9, eps=1e-2),
        0.05,
    ),
    Case(
        "adabound of the survey",
        adabound_of_the_survey,
        None,
        references.adabound_of_the_survey,
        0.5,
    ),
    Case(
        "amsbound",
        jc.amsbound,
        None,
        partial(references.adabound, ams=True),
        0.01,
        valley_rate=3e-4,
    ),
    Case("ftrl", jc.ftrl, None, references.ftrl, 0.5, **FTRL),
    Case(
        "ftrl, odd values",
        partial(
            jc.ftrl,
            learning_rate_power=-0.7,
            initial_accumulator_value=0.5,
            l1_regularization_strength=1e-2,
            l2_regularization_strength=1e-3,
            l2_shrinkage_regularization_strength=1e-3,
            beta=0.5,
        ),
        None,
        partial(references.ftrl, power=-0.7, start=0.5, l1=1e-2, l2=1e-3, shrinkage=1e-3, beta=0.5),
        5.0,
        **FTRL,
    ),
    Case(
        "lookahead",
        lambda rate: jc.lookahead(jc.sgd(rate)),
        None,
        partial(references.lookahead, inner=references.sgd),
    ),
    Case(
        "rmsprop with momentum",
        partial(jc.rmsprop, momentum=0.5, nesterov=True, initial_scale=0.1),
        partial(optax.rmsprop, momentum=0.5, nesterov=True, initial_scale=0.1),
        None,
        0.05,
    ),
    Case(
        "rmsprop with bias correction",
        partial(jc.rmsprop, bias_correction=True),
        partial(optax.rmsprop, bias_correction=True),
        None,
        0.05,
    ),
    Case(
        "rmsprop, centered with bias correction",
        partial(jc.rmsprop, centered=True, bias_correction=True, eps=0.1),
        partial(optax.rmsprop, centered=True, bias_correction=True, eps=0.1),
        None,
        0.02,
    ),
    Case(
        "adam with eps_root",
        partial(jc.adam, eps=0.0, eps_root=1e-6),
        partial(optax.adam, eps=0.0, eps_root=1e-6),
        None,
    ),
    Case(
        "adamw with nesterov",
        partial(jc.adamw, weight_decay=0.01, nesterov=True),
        partial(optax.adamw, weight_decay=0.01, nesterov=True),
        None,
    ),
]

IN_OPTAX = [case for case in CASES if case.optax]
TRANSCRIBED = [case for case in CASES if case.reference]
# Each optimizer once, at its defaults: for laws that no hyperparameter can break.
OPTIMIZERS = [case for case in CASES if hasattr(jc, case.name)]
