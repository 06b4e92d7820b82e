"""Packages that only an extra of this one installs."""

from importlib import import_module
from typing import Any

from jaxopt_cards.core.errors import MissingPackageError

# By the name that is imported: the name on PyPI, and the extra.
_PACKAGES = {
    "h5py": ("h5py", "transfer"),
    "safetensors": ("safetensors", "transfer"),
    "dm_pix": ("dm-pix", "examples"),
    "matplotlib": ("matplotlib", "examples"),
}


def optional(module: str) -> Any:
    """The module of an optional package; if it is missing, the error names the extra."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise missing(module) from error


def missing(module: str) -> MissingPackageError:
    """The error for a package that is not installed."""
    package, extra = _PACKAGES[module.partition(".")[0]]
    return MissingPackageError(f"needs {package}: pip install 'jaxopt_cards[{extra}]'")
