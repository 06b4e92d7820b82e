"""One update step of each optimizer on four kinds of trees: ours against Optax's."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import layers
from tests.bench.comparison import Comparison, compare
from tests.common.table import OPTIMIZERS

# Where a compilation takes seconds.
FEW = ("sgd", "momentum", "adam")
LONG = {"rounds": 40, "compilations": 1}
SCANNED = 100


def comparisons() -> list[Comparison]:
    """For each tree and optimizer a donated step and its compilation; then what else pays."""
    mlp = nnx.to_pure_dict(nnx.state(layers.MLP(784, 5, rngs=nnx.Rngs(0)), nnx.Param))
    matrices = {f"{i}": jnp.ones((256, 256)) for i in range(64)}
    leaves = {f"{i}": jnp.ones(64) for i in range(1000)}
    results = []
    for case in (case for case in OPTIMIZERS if case.optax):
        ours, theirs = case.make(1e-4), case.optax(1e-4)
        results += _both("MLP", case.name, ours, theirs, mlp, rounds=600)
        in_scan = (scanned(tx, mlp, SCANNED) for tx in (ours, theirs))
        what = f"{SCANNED} steps in a scan of {case.name}, MLP"
        results.append(compare(what, "Optax", *in_scan, rounds=15))
        results += _both("64 of 256×256", case.name, ours, theirs, matrices, rounds=25)
        results += _both("25 million", case.name, ours, theirs, jnp.ones(25_000_000), rounds=9)
        if case.name in FEW:
            results += _both("1,000 of 64", case.name, ours, theirs, leaves, **LONG)
    packed = jc.pack_small_leaves(jc.adam(1e-4))
    results += _both(
        "1,000 of 64, packed",
        "adam",
        packed,
        optax.adam(1e-4),
        jc.pack_params(leaves),
        leaves,
        **LONG,
    )
    return [*results, _copied()]


def _both(
    tree: str,
    name: str,
    ours: Any,
    theirs: Any,
    params: Any,
    their_params: Any = None,
    *,
    rounds: int,
    compilations: int = 15,
) -> list[Comparison]:
    """The compilation of both, and their steps in turns."""
    their_params = params if their_params is None else their_params
    stages = [_stages(ours, params), _stages(theirs, their_params)]
    what = f"{name}, {tree}"
    compilation, steps = ([stage[index] for stage in stages] for index in (0, 1))
    return [
        compare(f"step of {what}", "Optax", *steps, rounds=rounds),
        compare(f"compilation of {what}", "Optax", *compilation, rounds=compilations),
    ]


def _stages(tx: Any, params: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """To trace and compile a step; and to run it, each time on what the last one gave."""
    grads = jax.tree.map(lambda p: 0.01 * p, params)
    carry = jax.tree.map(jnp.copy, (params, tx.init(params)))

    def compiled() -> Any:
        step = jax.jit(lambda *args: _step(tx, *args), donate_argnums=(0, 1))
        return step.lower(*carry, grads).compile()

    program = compiled()

    def run() -> Any:
        nonlocal carry
        carry = program(*carry, grads)
        return carry

    return compiled, run


def _step(tx: Any, params: Any, state: Any, grads: Any) -> tuple[Any, Any]:
    updates, state = tx.update(grads, state, params)
    return optax.apply_updates(params, updates), state


def scanned(tx: Any, params: Any, steps: int) -> Callable[[], Any]:
    """Steps inside of a scan; the gradient is the parameters, so that nothing else runs."""

    @jax.jit
    def run(params: Any) -> Any:
        body = lambda carry, _: (_step(tx, *carry, carry[0]), None)  # noqa: E731
        return jax.lax.scan(body, (params, tx.init(params)), None, steps)[0][0]

    return lambda: run(params)


def _copied() -> Comparison:
    """The floor of Adam on 25 million: seven passes over memory, at the speed of a copy."""
    _, adam = _stages(jc.adam(1e-4), jnp.ones(25_000_000))
    add = jax.jit(lambda x: x + 1.0, donate_argnums=0)  # in place: two passes
    whole, half = jnp.ones(25_000_000), jnp.ones(12_500_000)

    def floor() -> Any:
        nonlocal whole, half
        for _ in range(3):
            whole = add(whole)
        half = add(half)
        return whole, half

    return compare("step of adam, 25 million", "7 passes at a copy's speed", adam, floor, rounds=9)
