"""Training: compiled epochs and runs, populations, search, checkpoints."""

import importlib as _importlib

import lazy_loader as _lazy

_public, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "report":  # moved to `reports` in 0.2.0
        return _importlib.import_module("jaxopt_cards.reports").report
    return _public(name)
