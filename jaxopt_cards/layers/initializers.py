"""Flax's initialisers of kernels, each made once."""

from typing import Any, Literal

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

# Géron's table 11-1: the factor of each activation on the deviation, and so on the radius of the
# uniform distribution. As in TensorFlow, values beyond two deviations are drawn again.
FACTORS = {"logistic": 1.0, "tanh": 4.0, "relu": 2**0.5}
_DRAWN: dict[str, Literal["truncated_normal", "uniform"]] = {
    "normal": "truncated_normal",
    "uniform": "uniform",
}
_FANS: dict[str, Literal["fan_avg", "fan_in"]] = {"": "fan_avg", "_fan_in": "fan_in"}
INITIALIZERS |= {
    f"{activation}_{distribution}{end}": nnx.initializers.variance_scaling(factor**2, mode, drawn)
    for activation, factor in FACTORS.items()
    for distribution, drawn in _DRAWN.items()
    for end, mode in _FANS.items()
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
