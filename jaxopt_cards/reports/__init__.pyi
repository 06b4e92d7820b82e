"""What is public in `jaxopt_cards.reports`: `__init__` and type checkers read it here."""

from .document import report

__all__ = ["report"]
