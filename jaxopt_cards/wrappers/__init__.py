"""Wrappers around any transformation."""
