"""Sphinx settings of the documentation; built by docs/build.py."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for the modules of this folder that write pages

import site_api
import site_gallery

import overparam

project = "overparam"
author = "the overparam developers"
version = release = overparam.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "sphinx_gallery.gen_gallery", "numpydoc"]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_gallery", "findings/*.txt"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
# links that leave docs/ are for readers of the repository
suppress_warnings = ["myst.xref_missing", "config.cache"]

html_theme = "pydata_sphinx_theme"
html_title = "overparam"
html_static_path = ["_static"]
html_css_files = ["overparam.css"]
html_theme_options = {"show_toc_level": 2, "navigation_depth": 3, "secondary_sidebar_items": ["page-toc"], "show_prev_next": True}
html_sidebars = {"index": []}

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc's sections say it in words
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "_gallery", "gallery_dirs": "gallery", "filename_pattern": r"\.py", "download_all_examples": False,
    "image_scrapers": (site_gallery.scraper,), "parallel": 2, "show_memory": False, "remove_config_comments": True, "capture_repr": (),
    "within_subsection_order": "FileNameSortKey", "min_reported_time": 0, "write_computation_times": True, "abort_on_example_error": True,
}

site_gallery.write(Path(__file__).parent / "_gallery")
site_api.write(Path(__file__).parent / "api")
