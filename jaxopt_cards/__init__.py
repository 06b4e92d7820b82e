"""The techniques of training deep networks, each one equation: composable JAX optimizers.

`__init__.pyi` lists what is public. A name is imported when it is first used, so that the command
line can tell of a technique without waiting for JAX.
"""

from importlib.metadata import version as _version

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__version__ = _version("jaxopt_cards")
