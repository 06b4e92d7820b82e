"""An epoch of the chapter's exercises: compiled whole, against a step at a time."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jaxopt_cards as jc
from jaxopt_cards import data, layers, transfer
from jaxopt_cards.training import epoch_program as _epoch
from jaxopt_cards.training.inputs import default_loss
from tests.bench.comparison import Comparison, compare

BATCH = 20


def comparisons() -> list[Comparison]:
    """All comparisons of epochs."""
    task, few = tasks()
    return [*_against_flax(task), _cached(few), *_around(task)]


def tasks() -> tuple[data.Splits, data.Splits]:
    """Task A and B of the chapter; noise of the same size where MNIST is not on disk."""
    try:
        splits = data.mnist(download=False)
    except FileNotFoundError:
        rng = np.random.default_rng(0)
        noise = lambda n: data.Examples(rng.random((n, 784), np.float32), np.arange(n) % 10)  # noqa: E731
        splits = data.Splits(noise(55_000), noise(5_000), noise(10_000))
    task = data.Splits(*(data.subset(split, range(5)) for split in splits))
    rest = data.Splits(*(data.subset(split, range(5, 10)) for split in splits))
    few = data.Splits(data.per_class(rest.train, 100), data.per_class(rest.valid, 30), rest.test)
    return task, few


def _against_flax(task: data.Splits) -> list[Comparison]:
    """8.2 without validation on either side: ours, and the loop of Flax's own tutorials."""
    ours = epoch_of(layers.MLP(784, 5, rngs=nnx.Rngs(0)), jc.adam(1e-4), task.train)
    flax = _flax_epoch(task.train, cached=False)
    cached = _flax_epoch(task.train, cached=True)
    return [
        compare("epoch of 8.2", "Flax NNX, nnx.jit a step", ours, flax, rounds=15),
        compare("epoch of 8.2", "the same with nnx.cached_partial", ours, cached, rounds=15),
    ]


def _cached(few: data.Splits) -> Comparison:
    """9.3 against 9.2: features of the frozen layers computed once, or in each step."""
    model = layers.MLP(784, 5, rngs=nnx.Rngs(0))
    adamw = jc.adamw(1e-3, weight_decay=0.1)
    whole = epoch_of(model, adamw, few.train, few.valid, transfer.freeze("hidden"))
    train, valid = (transfer.cache_features(model, 5, part) for part in few[:2])
    head = epoch_of(model.logits, adamw, train, valid)
    return compare(
        "epoch of 9.3, cached", "9.2, five layers frozen", head, whole, rounds=20, calls=20
    )


def _around(task: data.Splits) -> list[Comparison]:
    """What it costs to watch a run, to guard it, and to keep its state in fewer bits."""
    adam = jc.adam(1e-4)
    plain = epoch_of(layers.MLP(784, 5, rngs=nnx.Rngs(0)), adam, task.train)
    return [
        compare(
            f"epoch of 8.2 with {name}",
            "without",
            epoch_of(layers.MLP(784, 5, rngs=nnx.Rngs(0)), tx, task.train),
            plain,
            rounds=15,
        )
        for name, tx in (
            ("probe", jc.probe(adam)),
            ("skip_nonfinite", jc.skip_nonfinite(adam)),
            ("state in 16 bits", jc.compress_state(adam, bits=16)),
            ("state in 8 bits", jc.compress_state(adam, bits=8)),
        )
    ]


def epoch_of(model: Any, tx: Any, train: Any, valid: Any = None, trainable: Any = nnx.Param) -> Any:
    """One epoch of `fit` after another, as a function without arguments."""
    program, arrays, frozen = _epoch.prepared(
        model, trainable, default_loss, BATCH, _epoch.Options()
    )
    train = _epoch.Data(*jax.device_put(tuple(train)))
    # One example, where validation is not what is compared.
    valid = (
        _epoch.Data(*jax.device_put(tuple(valid)))
        if valid
        else _epoch.Data(train.x[:1], train.y[:1])
    )
    run, key = jax.tree.map(jnp.copy, _epoch.first_run(program, arrays, tx)), jax.random.key(0)

    def epoch() -> Any:
        nonlocal run
        run, measured = _epoch.compiled_epoch()(program, tx, run, frozen, train, valid, key)
        return measured.losses

    return epoch


def _flax_epoch(train: data.Examples, *, cached: bool) -> Any:
    """An epoch as Flax's tutorials write it, with the data on the device and nothing measured."""
    model = layers.MLP(784, 5, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(1e-4), wrt=nnx.Param)
    x, y = jax.device_put(tuple(train))
    rng = np.random.default_rng(0)

    @nnx.jit
    def step(model: Any, optimizer: Any, x: jax.Array, y: jax.Array, rows: jax.Array) -> jax.Array:
        def mean_loss(model: Any) -> jax.Array:
            return optax.softmax_cross_entropy_with_integer_labels(model(x[rows]), y[rows]).mean()

        loss, grads = nnx.value_and_grad(mean_loss)(model)
        optimizer.update(model, grads)
        return loss

    one = nnx.cached_partial(step, model, optimizer) if cached else None

    def epoch() -> Any:
        order = rng.permutation(len(y))[: len(y) // BATCH * BATCH].reshape(-1, BATCH)
        for rows in order:
            loss = one(x, y, rows) if one else step(model, optimizer, x, y, rows)
        return loss

    return epoch
