"""Transfer: restore a part of a network, give it a new head, freeze it, cache what is frozen."""

from jaxopt_cards.transfer._autoencoder import pretrain_autoencoder
from jaxopt_cards.transfer._features import cache_features
from jaxopt_cards.transfer._fine_tune import fine_tune
from jaxopt_cards.transfer._freeze import freeze
from jaxopt_cards.transfer._head import drop_layers, insert_layers, replace_head
from jaxopt_cards.transfer._keras import from_keras
from jaxopt_cards.transfer._model_card import ModelCard
from jaxopt_cards.transfer._numpy import from_numpy
from jaxopt_cards.transfer._pretraining import Pretrained
from jaxopt_cards.transfer._ranking import margin_ranking_loss
from jaxopt_cards.transfer._rbm import pretrain_rbm
from jaxopt_cards.transfer._restore import restore
from jaxopt_cards.transfer._restore_report import RestoreReport
from jaxopt_cards.transfer._reuse import ReuseResult, reuse_layers
from jaxopt_cards.transfer._safetensors import from_safetensors
from jaxopt_cards.transfer._torch import from_torch
from jaxopt_cards.transfer._unfreeze import UnfreezeSchedule, migrate_state, unfreeze_schedule
from jaxopt_cards.transfer._zoo import Zoo

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
