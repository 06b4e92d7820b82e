"""Batch normalisation that an array freezes, so that frozen and free ones share a program."""

import inspect
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxopt_cards.layers import MLP


class _Hold(nnx.Variable):
    """Whether a normalisation is frozen: an array, so that all members have one program."""


class _HeldNorm(nnx.BatchNorm):
    """Batch normalisation that an array, not the graph, tells to keep its statistics.

    The arguments and the variables are those of the normalisation it stands for.
    """

    def __init__(self, norm: nnx.BatchNorm, hold: bool):
        names = inspect.signature(nnx.BatchNorm.__init__).parameters
        arguments = {name: value for name, value in vars(norm).items() if name in names}
        super().__init__(**arguments, rngs=nnx.Rngs(0))
        for name, value in vars(norm).items():
            if isinstance(value, nnx.Variable):  # itself: another layer may share it
                setattr(self, name, value)
        self.hold = _Hold(jnp.asarray(hold))

    def __call__(self, x: jax.Array, *args: Any, **kwargs: Any) -> jax.Array:
        """By the running statistics where they are frozen, else by the batch, which moves them."""
        by_running = super().__call__(x, use_running_average=True)
        if self.use_running_average:
            return by_running
        held, before = self.hold[...], (self.mean[...], self.var[...])
        by_batch = super().__call__(x)
        self.mean[...] = jnp.where(held, before[0], self.mean[...])
        self.var[...] = jnp.where(held, before[1], self.var[...])
        return jnp.where(held, by_running, by_batch)


def held(network: MLP, depth: int) -> MLP:
    """A copy whose normalisations are told by arrays which of them are frozen."""
    told = nnx.clone(network)
    made: dict[int, _HeldNorm] = {}  # one that several layers share is frozen with the lowest
    for index in range(1, network.depth + 1):
        norm = getattr(told, f"hidden{index}_norm", None)
        if norm is not None:
            made.setdefault(id(norm), _HeldNorm(norm, hold=index <= depth))
            setattr(told, f"hidden{index}_norm", made[id(norm)])
    return told


def released(network: MLP, trained: nnx.Module) -> MLP:
    """A plain network with what was trained."""
    plain = nnx.clone(network)
    nnx.update(plain, nnx.state(trained, nnx.Not(_Hold)))
    plain.eval()
    return plain
