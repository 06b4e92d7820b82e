"""The training engine: against PyTorch, against fits one by one, and against the machine."""

import importlib.util
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, training, transfer
from jaxopt_cards.training import epoch_program as _epoch
from jaxopt_cards.training.inputs import default_loss
from tests.bench import steps
from tests.bench.comparison import Comparison, compare
from tests.bench.epochs import BATCH, epoch_of, tasks

LARGE = 1024
RATES = np.logspace(-4, -1, 16).tolist()
SEARCH = {"batch_size": 50, "epochs": 3, "progress": False}


def comparisons() -> list[Comparison]:
    """All comparisons of the engine."""
    task, few = tasks()
    return [*_against_torch(task, few), *_against_the_floor(task.train), *_searches(task.train)]


def _against_torch(task: data.Splits, few: data.Splits) -> list[Comparison]:
    """8.2 and 9.3 without validation: on the threads that each takes by itself, and on one each."""
    if not importlib.util.find_spec("torch"):
        print("PyTorch is not installed: the comparisons with it are left out")
        return []
    from tests.bench import torch_loops

    print(torch_loops.described())
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as another:
        on_one = another.submit(_on_one_thread).result()
    return [*_loops(task, few, "its default threads"), *on_one]


def _on_one_thread() -> list[Comparison]:
    """The same on one thread each; for a process of its own, as JAX asks but once."""
    os.environ["PJRT_NPROC"] = "1"
    import torch

    torch.set_num_threads(1)
    return _loops(*tasks(), "one thread each")


def _loops(task: data.Splits, few: data.Splits, threads: str) -> list[Comparison]:
    from tests.bench import torch_loops

    ours, head = _epoch_of_8_2(task.train), _epoch_of_9_3(few.train)
    sliced, loaded = torch_loops.sliced(task.train), torch_loops.loaded(task.train)
    frozen = torch_loops.frozen(few.train)
    what, cached = "epoch of 8.2", "epoch of 9.3, cached"
    # A run of 9.3 has dozens of epochs, of which only the first meets what the other side has left
    # in caches and threads: with 5 in a turn that is half of our time.
    return [
        compare(what, f"PyTorch, {threads}, tensors sliced", ours, sliced, rounds=15),
        compare(what, f"PyTorch, {threads}, DataLoader", ours, loaded, rounds=15),
        compare(cached, f"PyTorch, {threads}, layers frozen", head, frozen, rounds=9, calls=50),
    ]


def _epoch_of_8_2(train: data.Examples) -> Callable[[], Any]:
    return epoch_of(layers.MLP(784, 5, rngs=nnx.Rngs(0)), jc.adam(1e-4), train)


def _epoch_of_9_3(train: data.Examples) -> Callable[[], Any]:
    model = layers.MLP(784, 5, rngs=nnx.Rngs(0))
    features = transfer.cache_features(model, 5, train)
    return epoch_of(model.logits, jc.adamw(1e-3, weight_decay=0.1), features)


def _against_the_floor(train: data.Examples) -> list[Comparison]:
    """8.2 against nothing but its matrix products, and what else it is made of."""
    ours, count = _epoch_of_8_2(train), -(-len(train.y) // BATCH)
    params = nnx.to_pure_dict(nnx.state(layers.MLP(784, 5, rngs=nnx.Rngs(0)), nnx.Param))
    # Each layer has three products: forward, for the weights and, but in the lowest, for its input.
    shapes = [(784, 100)] * 2 + [(100, 100)] * 12 + [(100, 5)] * 3
    by_hand = count * sum(2 * BATCH * n * m for n, m in shapes)
    counted = count * _counted_in_a_step(train)
    print(
        f"epoch of 8.2: {by_hand / 1e9:.1f} GFLOP in matrix products, counted by hand; "
        f"{counted / 1e9:.1f} GFLOP in all by cost_analysis of a step"
    )
    of_layers = _products(count, [(784, 100)] * 2 + [(100, 100)] * 12)
    large = _products(round(by_hand / (2 * LARGE**3)), [(LARGE, LARGE)], rows=LARGE)
    adam_alone = steps.scanned(jc.adam(1e-4), params, count)
    return [
        compare("epoch of 8.2", "floor: products of its shapes", ours, of_layers, rounds=15),
        compare("epoch of 8.2", f"floor: as many FLOP at {LARGE}²", ours, large, rounds=15),
        compare("epoch of 8.2", "its steps of Adam alone", ours, adam_alone, rounds=15),
    ]


def _counted_in_a_step(train: data.Examples) -> float:
    """Floating-point operations of a step: `cost_analysis` counts the body of a loop but once."""
    tx, model = jc.adam(1e-4), layers.MLP(784, 5, rngs=nnx.Rngs(0))
    program, arrays, frozen = _epoch.prepared(
        model, nnx.Param, default_loss, BATCH, _epoch.Options()
    )
    carry = (arrays, tx.init(arrays.params), jnp.int32(0))
    batch = (jnp.int32(1), jnp.arange(BATCH), jnp.full(BATCH, 1 / BATCH))
    examples = _epoch.Data(*jax.device_put(tuple(train)))
    step = jax.jit(_epoch.one_step, static_argnums=(0, 1, 2))
    lowered = step.lower(program, tx, (), frozen, examples, jax.random.key(0), carry, batch)
    return lowered.compile().cost_analysis()["flops"]


def _products(steps: int, shapes: list[tuple[int, int]], rows: int = BATCH) -> Callable[[], Any]:
    """So many steps of products of (rows, n) with (n, m), as a function without arguments."""
    keys = jax.random.split(jax.random.key(0), len(shapes))
    # Orthogonal: however often they are applied, the numbers neither grow nor vanish.
    weights = [jax.nn.initializers.orthogonal()(k, s) for k, s in zip(keys, shapes, strict=True)]
    inputs = {n: jnp.ones((rows, n)) for n, _ in shapes}

    def step(_: Any, inputs: dict, weights: list) -> dict:
        for w in weights:  # each needs the one before, so that none is left out
            inputs = inputs | {len(w): inputs[len(w)].at[:, : w.shape[1]].set(inputs[len(w)] @ w)}
        return inputs

    run = jax.jit(lambda inputs, w: jax.lax.fori_loop(0, steps, lambda *a: step(*a, w), inputs))
    return lambda: run(inputs, weights)


def _searches(train: data.Examples) -> list[Comparison]:
    """16 learning rates on three folds: as one program, one by one, and all side by side."""
    few = data.Examples(train.x[:3000], train.y[:3000])
    folds = _folds(len(few.y), 3)
    one_by_one = _afresh(lambda: _one_by_one(few, folds))
    at_once = _afresh(lambda: _at_once(few, folds))
    name = f"search of {len(RATES)} rates × {len(folds)} folds, compiled anew"
    alone, together = (
        sum(result.history.seconds.sum() for result in _at_once(few, folds, side_by_side=width))
        for width in (1, len(RATES) * len(folds))
    )
    return [
        compare(name, "one fit after another", at_once, one_by_one, rounds=3, uncounted=0),
        Comparison(
            "the same, all side by side", "in turns", np.array([together]), np.array([alone])
        ),
    ]


def _folds(n: int, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
    parts = np.random.default_rng(0).permutation(n).reshape(k, -1)
    return [(np.delete(parts, i, axis=0).ravel(), part) for i, part in enumerate(parts)]


def _afresh(run: Callable[[], Any]) -> Callable[[], Any]:
    """The same, after everything that was compiled has been forgotten."""

    def forgetful() -> None:
        jax.clear_caches()
        run()

    return forgetful


def _at_once(few: data.Examples, folds: list, side_by_side: int | None = None) -> list:
    runs = [(rate, fold) for rate in RATES for fold in folds]
    return training.fit_many(
        [layers.MLP(784, 5, rngs=nnx.Rngs(0)) for _ in runs],
        jc.adam,
        [{"learning_rate": rate} for rate, _ in runs],
        train=few,
        folds=[fold for _, fold in runs],
        side_by_side=side_by_side,
        **SEARCH,
    )


def _one_by_one(few: data.Examples, folds: list) -> None:
    """One transformation a rate, so that the folds share what is compiled."""
    parts = [[data.Examples(few.x[r], few.y[r]) for r in fold] for fold in folds]
    for tx in map(jc.adam, RATES):
        for train, valid in parts:
            model = layers.MLP(784, 5, rngs=nnx.Rngs(0))
            training.fit(model, tx, train=train, valid=valid, **SEARCH)
