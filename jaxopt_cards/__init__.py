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
    lbfgs,
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
from jaxopt_cards.optimizers import (
    adabound,
    adadelta,
    adagrad,
    adam,
    adamax,
    adamw,
    amsbound,
    amsgrad,
    ftrl,
    momentum,
    nadam,
    nesterov,
    radam,
    rmsprop,
    sgd,
)
from jaxopt_cards.selection import merge_params, partition_params, select
from jaxopt_cards.transforms._leafwise import leafwise
from jaxopt_cards.transforms.adabound import scale_by_adabound
from jaxopt_cards.transforms.adam import scale_by_adam
from jaxopt_cards.transforms.adam_variants import (
    scale_by_adamax,
    scale_by_amsgrad,
    scale_by_radam,
)
from jaxopt_cards.transforms.adaptive import scale_by_adadelta, scale_by_rss
from jaxopt_cards.transforms.averaging import polyak_average
from jaxopt_cards.transforms.clipping import (
    adaptive_grad_clip,
    clip,
    clip_by_block_rms,
    clip_by_global_norm,
    clip_by_norm,
)
from jaxopt_cards.transforms.compression import compress_state
from jaxopt_cards.transforms.decay import add_decayed_weights, add_elastic_net, add_l1_decay
from jaxopt_cards.transforms.ftrl import scale_by_ftrl
from jaxopt_cards.transforms.guards import SkipReport, read_skips, skip_nonfinite
from jaxopt_cards.transforms.learning_rate import (
    layerwise_decay,
    reduce_on_plateau,
    scale_by_learning_rate,
)
from jaxopt_cards.transforms.lookahead import lookahead
from jaxopt_cards.transforms.momentum import nesterov_point, scale_by_true_nesterov, trace
from jaxopt_cards.transforms.packing import Packed, pack_params, pack_small_leaves, unpack_params
from jaxopt_cards.transforms.pretrained import add_l2_sp
from jaxopt_cards.transforms.probes import Probes, probe, read_probes
from jaxopt_cards.transforms.projection import max_norm
from jaxopt_cards.transforms.rmsprop import scale_by_rms, scale_by_stddev
from jaxopt_cards.transforms.sparse import magnitude_prune, proximal_l1

__version__ = _version("jaxopt_cards")

__all__ = [
    "GradientTransformation",
    "GradientTransformationExtraArgs",
    "MultiSteps",
    "Packed",
    "Probes",
    "SkipReport",
    "adabound",
    "adadelta",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adaptive_grad_clip",
    "add_decayed_weights",
    "add_elastic_net",
    "add_l1_decay",
    "add_l2_sp",
    "add_noise",
    "amsbound",
    "amsgrad",
    "apply_if_finite",
    "apply_updates",
    "centralize",
    "chain",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "clip_by_norm",
    "compress_state",
    "ema",
    "freeze",
    "ftrl",
    "identity",
    "inject_hyperparams",
    "keep_params_nonnegative",
    "layerwise_decay",
    "lbfgs",
    "leafwise",
    "lookahead",
    "magnitude_prune",
    "masked",
    "max_norm",
    "merge_params",
    "momentum",
    "nadam",
    "named_chain",
    "nesterov",
    "nesterov_point",
    "pack_params",
    "pack_small_leaves",
    "partition",
    "partition_params",
    "polyak_average",
    "probe",
    "proximal_l1",
    "radam",
    "read_probes",
    "read_skips",
    "reduce_on_plateau",
    "rmsprop",
    "scale",
    "scale_by_adabound",
    "scale_by_adadelta",
    "scale_by_adam",
    "scale_by_adamax",
    "scale_by_amsgrad",
    "scale_by_ftrl",
    "scale_by_learning_rate",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_rss",
    "scale_by_schedule",
    "scale_by_stddev",
    "scale_by_true_nesterov",
    "schedules",
    "select",
    "selective_transform",
    "set_to_zero",
    "sgd",
    "skip_nonfinite",
    "trace",
    "unpack_params",
    "zero_nans",
]
