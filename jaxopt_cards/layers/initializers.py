"""Flax's initialisers of kernels, each made once."""

from typing import Any

from flax import nnx

from jaxopt_cards.core.checks import HyperparameterError

# One object for all models, so that networks of the same shape share a compiled program.
glorot_normal = nnx.initializers.glorot_normal()
glorot_uniform = nnx.initializers.glorot_uniform()
he_normal = nnx.initializers.he_normal()
he_uniform = nnx.initializers.he_uniform()
lecun_normal = nnx.initializers.lecun_normal()
normal = nnx.initializers.normal(1.0)

INITIALIZERS: dict[str, nnx.Initializer] = {
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "lecun_normal": lecun_normal,
    "normal": normal,
}


def initializer(kernel_init: Any) -> nnx.Initializer:
    """The initialiser with this name; anything else is returned as it is."""
    found = INITIALIZERS.get(kernel_init) if isinstance(kernel_init, str) else kernel_init
    if not callable(found):
        raise HyperparameterError(
            "kernel_init",
            f"be an initialiser or one of {list(INITIALIZERS)}",
            kernel_init,
        )
    return found
