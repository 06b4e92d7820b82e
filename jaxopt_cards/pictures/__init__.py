"""Pictures: each function draws into the given axes, and returns them.

The colours are those of Okabe and Ito, which colour-blind people can distinguish. Line styles and
markers differ as well, so pictures can be read in grey. Colours are lighter on a dark background.
"""

import lazy_loader as _lazy

from jaxopt_cards.core.errors import named_as as _named_as
from jaxopt_cards.core.optional import optional as _optional

_public, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name in __all__:
        with _named_as("pictures"):
            _optional("matplotlib")
    return _public(name)
