"""Sphinx: the site's settings."""

import importlib.metadata

project = "jaxopt_cards"
author = "The jaxopt_cards authors"
release = importlib.metadata.version("jaxopt_cards")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "results"]
myst_enable_extensions = ["dollarmath"]

# The sections of a card; napoleon knows the others.
napoleon_google_docstring = True
napoleon_custom_sections = ["Equation", "State", "Use when", "Avoid when"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"

html_theme = "sphinx_book_theme"
html_title = "jaxopt_cards"
