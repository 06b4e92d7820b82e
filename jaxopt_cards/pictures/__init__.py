"""Pictures: each function draws into the axes that it is given, and returns them.

Colours are those of Okabe and Ito, which colour-blind people tell apart; lines and markers differ
as well, so that a picture can be read in grey. On a dark background the colours are lighter.
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
