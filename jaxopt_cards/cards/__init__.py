"""Cards: descriptions of techniques for the terminal, for pages and as pictures.

`__init__.pyi` lists the public names. They are imported when they are first used, so that a card
can be read without JAX.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
