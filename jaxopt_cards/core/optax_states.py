"""The classes of Optax's states, including those that Optax does not export."""

import jax
import optax


def state_class(tx: optax.GradientTransformation) -> type:
    """The class of the state of a transformation of Optax, found without a device."""
    return type(jax.eval_shape(tx.init, ()))
