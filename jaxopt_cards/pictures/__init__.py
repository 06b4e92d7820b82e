"""Pictures: each function draws into the axes that it is given, and returns them.

Colours are those of Okabe and Ito, which colour-blind people tell apart; lines and markers differ
as well, so that a picture can be read in grey. On a dark background the colours are lighter.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
