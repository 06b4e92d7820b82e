"""What the adaptive rules share: squares of magnitudes and the correction of running means."""

from typing import Any

import jax
import jax.numpy as jnp


def abs_sq(x: jax.Array) -> jax.Array:
    """The squared magnitude, real also of complex numbers."""
    return jnp.square(x.real) + jnp.square(x.imag) if jnp.iscomplexobj(x) else jnp.square(x)


def bias_corrected(moment: Any, decay: Any, step: Any) -> Any:
    """A running mean that started at zero, divided by the weight it has gathered since."""
    return moment / (1 - decay ** step.astype(moment.real.dtype))


def nesterov_mean(mu: Any, grad: Any, decay: Any, step: Any) -> Any:
    """Nadam's corrected mean: where the mean will be after this gradient counts once more."""
    ahead = bias_corrected(mu, decay, step + 1)
    return decay * ahead + (1 - decay) * bias_corrected(grad, decay, step)
