"""What layers with noise share: a source of randomness, and a switch."""

import jax
from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError


class Noisy(nnx.Module):
    """A layer that is random in training and not in evaluation."""

    def __init__(self, rngs: nnx.Rngs):
        """Takes a stream of random numbers of its own, as `nnx.Dropout` does."""
        if not isinstance(rngs, nnx.Rngs):
            raise HyperparameterError("rngs", "be an nnx.Rngs", rngs)
        self.rngs = rngs["dropout"].fork()
        # Under this name `train()`, `eval()` and `nnx.view` find the switch.
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
