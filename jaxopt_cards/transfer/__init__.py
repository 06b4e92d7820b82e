"""Transfer: restore a part of a network, give it a new head, freeze it, cache what is frozen."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
