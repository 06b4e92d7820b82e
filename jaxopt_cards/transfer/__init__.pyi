"""What is public in `jaxopt_cards.transfer`: `__init__` and type checkers read it here."""

from .above import fit_above
from .autoencoder import pretrain_autoencoder
from .features import cache_features
from .files.keras import from_keras
from .files.npz import from_numpy
from .files.safetensors import from_safetensors
from .files.torch import from_torch
from .fine_tuning import fine_tune
from .freezing import freeze
from .heads import drop_layers, insert_layers, replace_head
from .model_card import ModelCard
from .pretraining import Pretrained
from .ranking import margin_ranking_loss
from .rbm import pretrain_rbm
from .restore_report import RestoreReport
from .restoring import restore
from .reuse import ReuseResult, reuse_layers
from .unfreezing import UnfreezeSchedule, migrate_state, unfreeze_schedule
from .zoo import Zoo

__all__ = [
    "ModelCard",
    "Pretrained",
    "RestoreReport",
    "ReuseResult",
    "UnfreezeSchedule",
    "Zoo",
    "cache_features",
    "drop_layers",
    "fine_tune",
    "fit_above",
    "freeze",
    "from_keras",
    "from_numpy",
    "from_safetensors",
    "from_torch",
    "insert_layers",
    "margin_ranking_loss",
    "migrate_state",
    "pretrain_autoencoder",
    "pretrain_rbm",
    "replace_head",
    "restore",
    "reuse_layers",
    "unfreeze_schedule",
]
