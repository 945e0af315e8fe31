"""How Sphinx builds these pages: ``python -m sphinx -W -b html docs FOLDER`` (extra: ``docs``)."""

import sys as _sys
from importlib.metadata import version as _version
from pathlib import Path as _Path

_sys.path.insert(0, str(_Path(__file__).parent))

project, author = "fitting", "the authors of fitting"
version = release = _version("fitting")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["gallery/*"]
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "auto_gallery",
    "filename_pattern": "/",
    "abort_on_example_error": True,
    "within_subsection_order": "ExampleTitleSortKey",
    "download_all_examples": False,
    "reset_modules": ("matplotlib", "scraper.single_precision"),
    "image_scrapers": ("matplotlib", "scraper.library_figures"),
    "show_memory": False,
    "parallel": True,  # as many scripts side by side as Sphinx's -j says
    "write_computation_times": False,
    "remove_config_comments": True,
}
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
html_theme = "pydata_sphinx_theme"
html_theme_options = {
    "header_links_before_dropdown": 4,
    "navigation_with_keys": False,
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
}
# Only the gallery and the reference (api) have pages below them to navigate to.
html_sidebars = {"a*/*": ["sidebar-nav-bs"], "[!a]*": []}
html_title = "fitting"
autodoc_typehints = "none"
autodoc_member_order = "alphabetical"
# Attributes are described in the docstrings of their classes.
autodoc_default_options = {"undoc-members": False}
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
# Words such as target and point are attributes of several classes, and shapes in docstrings.
suppress_warnings = ["ref.python"]
