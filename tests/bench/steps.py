"""The update alone: our optimizers against Optax's, compiled, on the chapter's network."""

from typing import Any

import jax
import optax
from flax import nnx

from jaxopt_cards import layers
from tests.bench.comparison import Comparison, compare
from tests.common.table import CASES

STEPS = 200


def comparisons() -> list[Comparison]:
    """A comparison for each optimizer of the table."""
    params = nnx.to_pure_dict(nnx.state(layers.MLP(784, 5, rngs=nnx.Rngs(0)), nnx.Param))
    return [
        compare(
            f"{STEPS} updates, {case.name}",
            "Optax",
            _steps(case.make(1e-4), params),
            _steps(case.optax(1e-4), params),
            rounds=15,
        )
        for case in CASES
    ]


def _steps(tx: Any, params: Any) -> Any:
    """So many updates as one program; the gradient is the parameters, so that nothing else runs."""

    @jax.jit
    def run(params: Any) -> Any:
        def step(carry: Any, _: None) -> tuple[Any, None]:
            params, state = carry
            updates, state = tx.update(params, state, params)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, tx.init(params)), None, STEPS)[0][0]

    return lambda: run(params)
