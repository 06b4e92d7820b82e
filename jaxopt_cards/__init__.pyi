"""What is public in `jaxopt_cards`: `__init__` and type checkers read it here."""

from . import (
    cards,
    data,
    layers,
    optimizers,
    pictures,
    reports,
    schedules,
    selection,
    training,
    transfer,
    transforms,
    wrappers,
)
from .core.leafwise import leafwise
from .from_optax import (
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
from .optimizers.adabound import adabound, amsbound, scale_by_adabound
from .optimizers.adadelta import adadelta, scale_by_adadelta
from .optimizers.adagrad import adagrad, scale_by_rss
from .optimizers.adam import adam, adamw, nadam, scale_by_adam
from .optimizers.adamax import adamax, scale_by_adamax
from .optimizers.amsgrad import amsgrad, scale_by_amsgrad
from .optimizers.ftrl import ftrl, scale_by_ftrl
from .optimizers.gradient_descent import momentum, nesterov, sgd, trace
from .optimizers.lbfgs import lbfgs
from .optimizers.radam import radam, scale_by_radam
from .optimizers.rmsprop import rmsprop, scale_by_rms, scale_by_stddev
from .optimizers.true_nesterov import nesterov_point, scale_by_true_nesterov
from .selection import merge_params, partition_params, select
from .transforms.averaging import polyak_average
from .transforms.clipping import (
    adaptive_grad_clip,
    clip,
    clip_by_block_rms,
    clip_by_global_norm,
    clip_by_norm,
)
from .transforms.decay import add_decayed_weights, add_elastic_net, add_l1_decay
from .transforms.learning_rate import reduce_on_plateau, scale_by_learning_rate
from .transforms.pretrained import add_l2_sp
from .transforms.projection import max_norm
from .transforms.sparsity import magnitude_prune, proximal_l1
from .wrappers.compression import compress_state
from .wrappers.guards import SkipReport, read_skips, skip_nonfinite
from .wrappers.layerwise import layerwise_decay
from .wrappers.lookahead import lookahead, slow_weights
from .wrappers.packing import Packed, pack_params, pack_small_leaves, unpack_params
from .wrappers.probes import Probes, probe, read_probes

__version__: str
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
    "cards",
    "centralize",
    "chain",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "clip_by_norm",
    "compress_state",
    "data",
    "ema",
    "freeze",
    "ftrl",
    "identity",
    "inject_hyperparams",
    "keep_params_nonnegative",
    "layers",
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
    "optimizers",
    "pack_params",
    "pack_small_leaves",
    "partition",
    "partition_params",
    "pictures",
    "polyak_average",
    "probe",
    "proximal_l1",
    "radam",
    "read_probes",
    "read_skips",
    "reduce_on_plateau",
    "reports",
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
    "selection",
    "selective_transform",
    "set_to_zero",
    "sgd",
    "skip_nonfinite",
    "slow_weights",
    "trace",
    "training",
    "transfer",
    "transforms",
    "unpack_params",
    "wrappers",
    "zero_nans",
]
