"""Squared magnitudes and bias-corrected running means, for the adaptive rules."""

from typing import Any

import jax
import jax.numpy as jnp


def abs_sq(x: jax.Array) -> jax.Array:
    """The squared magnitude, which is real also for complex numbers."""
    return jnp.square(x.real) + jnp.square(x.imag) if jnp.iscomplexobj(x) else jnp.square(x)


def bias_corrected(moment: Any, decay: Any, step: Any) -> Any:
    """A running mean that started at zero, divided by the sum of its weights."""
    return moment / (1 - decay ** step.astype(moment.real.dtype))


def nesterov_mean(mu: Any, grad: Any, decay: Any, step: Any) -> Any:
    """Nadam's corrected mean: one step ahead, as if the same gradient came again."""
    ahead = bias_corrected(mu, decay, step + 1)
    return decay * ahead + (1 - decay) * bias_corrected(grad, decay, step)
