"""Sphinx: the site's settings."""

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "jaxopt_cards"
author = "The jaxopt_cards authors"
release = importlib.metadata.version("jaxopt_cards")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "_site.mathml",
    "_site.docstrings",
    "_site.examples",
    "_site.api",
    "_site.cards",
    "chapter_page",
]
exclude_patterns = ["_build", "results", "_generated/sources", "_generated/backreferences"]
default_role = "py:obj"
# A word in backquotes that names nothing public is code; all other references must lead somewhere.
nitpicky = True
nitpick_ignore_regex = [("py:obj", ".*"), ("py:class", ".*")]
myst_enable_extensions = ["attrs_block", "attrs_inline", "dollarmath"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True

# The sections of a card; napoleon knows the others.
napoleon_google_docstring = True
napoleon_custom_sections = ["Equation", "State"]
autodoc_member_order = "bysource"
autodoc_typehints = "none"
add_function_parentheses = False
toc_object_entries = False
python_maximum_signature_line_length = 80

# The examples take minutes each: shown with the results that are kept, not run.
sphinx_gallery_conf = {
    "examples_dirs": "_generated/sources",
    "gallery_dirs": "_generated/examples",
    "backreferences_dir": "_generated/backreferences",
    "doc_module": ("jaxopt_cards",),
    "plot_gallery": "False",
    "nested_sections": False,
    "notebook_extensions": set(),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,
    "reset_modules": (),
    "remove_config_comments": True,
    "subsection_order": [
        f"_generated/sources/{name}" for name in ("exercises", "topics", "shared")
    ],
    "within_subsection_order": "FileNameSortKey",
}

html_theme = "sphinx_book_theme"
html_title = "jaxopt_cards"
html_math_renderer = "mathml"
# Formulas need a font made for them, which not every computer has: that which ziamath brings.
fonts = Path(importlib.util.find_spec("ziamath").origin).with_name("fonts")
html_static_path = ["_static", str(fonts)]
html_css_files = ["site.css"]
html_theme_options = {"show_navbar_depth": 1, "show_toc_level": 2, "navbar_persistent": []}
