"""The base class of layers with noise: a source of random numbers, and a switch."""

import jax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError


class Noisy(nnx.Module):
    """A layer that is random in training and not in evaluation."""

    def __init__(self, rngs: nnx.Rngs):
        """Forks its own stream of random numbers, as `nnx.Dropout` does."""
        if not isinstance(rngs, nnx.Rngs):
            raise HyperparameterError("rngs", "be an nnx.Rngs", rngs)
        self.rngs = rngs["dropout"].fork()
        # `train()`, `eval()` and `nnx.view` set the attribute of this name.
        self.deterministic = False

    def set_view(self, deterministic: bool | None = None) -> None:
        """Called by `nnx.view`.

        Args:
          deterministic: if True, switches the noise off.
        """
        if deterministic is not None:
            self.deterministic = deterministic

    def next_key(self) -> jax.Array | None:
        """A new key in training, none in evaluation."""
        return None if self.deterministic else self.rngs()
