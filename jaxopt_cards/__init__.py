"""The techniques of training deep networks, each one equation: composable JAX optimizers.

`__init__.pyi` lists the public names. A name is imported when it is first used, so the command line
can describe a technique without waiting for JAX.
"""

import lazy_loader as _lazy

_public, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name != "__version__":
        return _public(name)
    from importlib.metadata import version

    return version("jaxopt_cards")
