"""Pictures: each function draws into the given axes, and returns them.

The colours are those of Okabe and Ito, which colour-blind people can distinguish. Line styles and
markers differ as well, so pictures can be read in grey. Colours are lighter on a dark background.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
