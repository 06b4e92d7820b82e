"""Cards: what each technique says of itself, in the terminal, on a page and in a picture.

`__init__.pyi` lists what is public; names are imported when they are first used, so that a card
can be read without JAX.
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
