"""Batch normalisation frozen by an array, so that frozen and trained ones share a program."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxopt_cards.layers import MLP


class _Hold(nnx.Variable):
    """Whether a normalisation is frozen; an array, so that all members share a program."""


class _HeldNorm(nnx.BatchNorm):
    """Batch normalisation whose statistics are frozen by an array, not by the graph.

    It has the arguments and the variables of the normalisation that it replaces.
    """

    def __init__(self, norm: nnx.BatchNorm, hold: bool):
        names = inspect.signature(nnx.BatchNorm.__init__).parameters
        arguments = {name: value for name, value in vars(norm).items() if name in names}
        super().__init__(**arguments, rngs=nnx.Rngs(0))
        for name, value in vars(norm).items():
            if isinstance(value, nnx.Variable):  # not a copy: another layer may share it
                setattr(self, name, value)
        self.hold = _Hold(jnp.asarray(hold))

    def __call__(self, x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        """Uses the running statistics if frozen, else those of the batch, and updates them."""
        by_running = super().__call__(x, use_running_average=True)
        if self.use_running_average:
            return by_running
        held, before = self.hold[...], (self.mean[...], self.var[...])
        by_batch = super().__call__(x)
        self.mean[...] = jnp.where(held, before[0], self.mean[...])
        self.var[...] = jnp.where(held, before[1], self.var[...])
        return jnp.where(held, by_running, by_batch)


def held(network: MLP, depth: int) -> MLP:
    """A copy whose normalisations are frozen up to a depth, by arrays."""
    told = nnx.clone(network)
    made: dict[int, _HeldNorm] = {}  # a shared one is frozen with its lowest layer
    for index in range(1, network.depth + 1):
        norm = getattr(told, f"hidden{index}_norm", None)
        if norm is not None:
            made.setdefault(id(norm), _HeldNorm(norm, hold=index <= depth))
            setattr(told, f"hidden{index}_norm", made[id(norm)])
    return told


def released(network: MLP, trained: nnx.Module) -> MLP:
    """A plain network with the trained parameters and statistics."""
    plain = nnx.clone(network)
    nnx.update(plain, nnx.state(trained, nnx.Not(_Hold)))
    plain.eval()
    return plain
