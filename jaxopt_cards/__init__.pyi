"""What is public in `jaxopt_cards`: `__init__` and type checkers read it here."""

from . import cards, data, layers, schedules, training, transfer
from ._from_optax import (
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
from .optimizers import (
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
from .selection import (
    merge_params,
    partition_params,
    select,
)
from .transforms._leafwise import (
    leafwise,
)
from .transforms.adabound import (
    scale_by_adabound,
)
from .transforms.adam import (
    scale_by_adam,
)
from .transforms.adam_variants import (
    scale_by_adamax,
    scale_by_amsgrad,
    scale_by_radam,
)
from .transforms.adaptive import (
    scale_by_adadelta,
    scale_by_rss,
)
from .transforms.averaging import (
    polyak_average,
)
from .transforms.clipping import (
    adaptive_grad_clip,
    clip,
    clip_by_block_rms,
    clip_by_global_norm,
    clip_by_norm,
)
from .transforms.compression import (
    compress_state,
)
from .transforms.decay import (
    add_decayed_weights,
    add_elastic_net,
    add_l1_decay,
)
from .transforms.ftrl import (
    scale_by_ftrl,
)
from .transforms.guards import (
    SkipReport,
    read_skips,
    skip_nonfinite,
)
from .transforms.learning_rate import (
    layerwise_decay,
    reduce_on_plateau,
    scale_by_learning_rate,
)
from .transforms.lookahead import (
    lookahead,
)
from .transforms.momentum import (
    nesterov_point,
    scale_by_true_nesterov,
    trace,
)
from .transforms.packing import (
    Packed,
    pack_params,
    pack_small_leaves,
    unpack_params,
)
from .transforms.pretrained import (
    add_l2_sp,
)
from .transforms.probes import (
    Probes,
    probe,
    read_probes,
)
from .transforms.projection import (
    max_norm,
)
from .transforms.rmsprop import (
    scale_by_rms,
    scale_by_stddev,
)
from .transforms.sparse import (
    magnitude_prune,
    proximal_l1,
)

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
    "training",
    "transfer",
    "unpack_params",
    "zero_nans",
]
