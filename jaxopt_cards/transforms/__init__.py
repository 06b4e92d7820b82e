"""Transformations that are not optimizers, one family per file."""
