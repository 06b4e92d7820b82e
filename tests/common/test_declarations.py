"""Every public transformation is declared, has its row in the tables, and is what it declares."""

import inspect

import jax
import pytest

import jaxopt_cards as jc
from jaxopt_cards import optimizers
from jaxopt_cards.cards.facts import facts
from jaxopt_cards.core.declaration import declaration_of
from tests.common.table import CASES
from tests.common.transformations import TRANSFORMATIONS, params

FIRST_ROWS = {row.function: row for row in reversed(TRANSFORMATIONS)}
# Calls Optax's function, which does not keep our laws: compared in tests/test_optimizers.py.
OF_OPTAX = {"lbfgs"}
PUBLIC = [
    name
    for name in jc.__all__
    if name not in OF_OPTAX
    and inspect.isfunction(function := getattr(jc, name))
    and function.__module__.startswith("jaxopt_cards.")
    and "GradientTransformation" in str(inspect.signature(function).return_annotation)
]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_transformation_has_a_row(name):
    assert name in FIRST_ROWS


@pytest.mark.parametrize("name", optimizers.by_name())
def test_every_optimizer_has_a_row(name):
    assert name in {case.name for case in CASES}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_transformation_keeps_the_call_that_made_it(name):
    row = FIRST_ROWS[name]
    tx = row.make(*row.given())
    assert row.name.startswith("polyak_average") or tx.update.call.name == name


@pytest.mark.parametrize("name", [name for name in PUBLIC if name != "leafwise"])
def test_parameters_are_needed_where_it_is_declared(name):
    row = FIRST_ROWS[name]
    tx = row.make(*row.given())
    state = tx.init(params())
    update = lambda: jax.eval_shape(lambda: tx.update(params(), state, **row.extra))  # noqa: E731
    if declaration_of(getattr(jc, name)).needs_params:
        with pytest.raises(ValueError, match="needs the parameters"):
            update()
    else:
        update()


@pytest.mark.parametrize("name", [name for name in PUBLIC if facts(name)])
def test_what_is_declared_is_what_was_measured(name):
    declaration, measured = declaration_of(getattr(jc, name)), facts(name)
    assert declaration.needs_params == measured.needs_params
    assert declaration.elementwise == measured.elementwise
    assert declaration.gradient_at == measured.gradient_at
    assert declaration.evaluated_at == measured.evaluated_at
