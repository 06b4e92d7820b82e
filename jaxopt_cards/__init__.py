"""The techniques of training deep networks, each one equation: composable JAX optimizers."""

from importlib.metadata import version as _version

# Optax's own, where people will look for them
from optax import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    MultiSteps,
    add_noise,
    apply_if_finite,
    apply_updates,
    centralize,
    chain,
    ema,
    freeze,
    identity,
    inject_hyperparams,
    keep_params_nonnegative,
    masked,
    named_chain,
    partition,
    scale,
    scale_by_schedule,
    selective_transform,
    set_to_zero,
    zero_nans,
)

from jaxopt_cards import schedules
from jaxopt_cards.optimizers import adam, adamw, momentum, nesterov, rmsprop, sgd
from jaxopt_cards.selection import merge_params, partition_params, select
from jaxopt_cards.transforms._leafwise import leafwise
from jaxopt_cards.transforms.adaptive import scale_by_adam, scale_by_rms, scale_by_stddev
from jaxopt_cards.transforms.clipping import clip, clip_by_global_norm
from jaxopt_cards.transforms.decay import add_decayed_weights
from jaxopt_cards.transforms.learning_rate import scale_by_learning_rate
from jaxopt_cards.transforms.momentum import trace

__version__ = _version("jaxopt_cards")

__all__ = [
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "MultiSteps",
    "adam",
    "adamw",
    "add_decayed_weights",
    "add_noise",
    "apply_if_finite",
    "apply_updates",
    "centralize",
    "chain",
    "clip",
    "clip_by_global_norm",
    "ema",
    "freeze",
    "identity",
    "inject_hyperparams",
    "keep_params_nonnegative",
    "leafwise",
    "masked",
    "merge_params",
    "momentum",
    "named_chain",
    "nesterov",
    "partition",
    "partition_params",
    "rmsprop",
    "scale",
    "scale_by_adam",
    "scale_by_learning_rate",
    "scale_by_rms",
    "scale_by_schedule",
    "scale_by_stddev",
    "schedules",
    "select",
    "selective_transform",
    "set_to_zero",
    "sgd",
    "trace",
    "zero_nans",
]
