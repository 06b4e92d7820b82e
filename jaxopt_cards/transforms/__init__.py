"""The transformations, one file a family."""
