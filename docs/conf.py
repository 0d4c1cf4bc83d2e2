"""Sphinx settings of the documentation; built by docs/build.py."""

from __future__ import annotations

import pkgutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.nodes import make_refnode

sys.path.insert(0, str(Path(__file__).parent))  # for the modules of this folder that write pages

import site_api
import site_gallery

import overparam

project = "overparam"
author = "the overparam developers"
version = release = overparam.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.mathjax", "sphinx-mathjax-offline",
              "sphinx_gallery.gen_gallery", "numpydoc", "sphinx_copybutton"]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_gallery", "findings/*.txt"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 4
nitpicky = True
default_role = "code"  # what docstrings put between single backticks are names
mathjax3_config = {"chtml": {"scale": 0.92}}  # so that most displayed formulas fit the column
suppress_warnings = ["config.cache"]  # the gallery's scraper is a function, which is nothing to keep between builds

html_theme = "pydata_sphinx_theme"
html_title = "overparam"
html_static_path = ["_static"]
html_css_files = ["overparam.css"]
html_theme_options = {"show_toc_level": 2, "navigation_depth": 3, "header_links_before_dropdown": 8, "navbar_align": "left",
                      "navbar_end": ["theme-switcher"],
                      "secondary_sidebar_items": ["page-toc"], "show_prev_next": True, "footer_start": [], "footer_end": []}
html_sidebars = {name: [] for name in ("index", "tutorial", "findings", "performance", "numerics")}  # they have no pages below them
html_show_sourcelink = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"  # numpydoc's sections say it in words
autodoc_member_order = "groupwise"
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "_gallery", "gallery_dirs": "gallery", "filename_pattern": r"\.py", "within_subsection_order": "FileNameSortKey",
    "subsection_order": [f"_gallery/{paper}" for paper in site_gallery.PAPERS], "thumbnail_size": (480, 330),
    "image_scrapers": (site_gallery.scraper,), "capture_repr": ("_repr_html_",), "parallel": 2, "abort_on_example_error": True,
    "download_all_examples": False, "remove_config_comments": True, "show_memory": False, "min_reported_time": 0,
    "write_computation_times": True,
}

site_gallery.write(Path(__file__).parent / "_gallery")
site_api.write(Path(__file__).parent / "api")


def without_last_blank_line(app: Any, doctree: nodes.document) -> None:
    """Take away the blank line that ends a doctest in a Markdown page, which readers do not need."""
    for block in doctree.findall(nodes.literal_block):
        text = block.astext().rstrip("\n")
        block.rawsource = text
        block.children = [nodes.Text(text)]


def pictures_lead_to_themselves(app: Any, doctree: nodes.document, docname: str) -> None:
    """Make every picture a link to its file: those of many panels want to be seen larger."""
    for picture in list(doctree.findall(nodes.image)):
        leads_on = isinstance(picture.parent, nodes.reference) or "/thumb/" in picture["uri"]  # to a page of the gallery
        if picture["uri"] in app.env.images and not leads_on:
            path = "../" * docname.count("/") + f"_images/{app.env.images[picture['uri']][1]}"
            link = nodes.reference("", "", picture.deepcopy(), refuri=path, internal=True)
            picture.replace_self(link if isinstance(picture.parent, nodes.TextElement) else nodes.paragraph("", "", link))


def short_names(app: Any, env: Any, node: nodes.Element, content: nodes.Element) -> nodes.Element | None:
    """Find what a docstring calls by its last name, or by the module that defines it; what is there but not public gets no link."""
    domain = env.domains["py"]
    kinds = domain.objtypes_for_role(node.get("reftype", "")) or []
    name = node.get("reftarget", "")
    while name:
        found = sorted((path.count("."), path) for path, entry in domain.objects.items()
                       if path.endswith(f".{name}") and entry.objtype in kinds and not entry.aliased)
        if found and [depth for depth, _ in found].count(found[0][0]) == 1:  # one nearest to the top
            path = found[0][1]
            return make_refnode(app.builder, node["refdoc"], domain.objects[path].docname, domain.objects[path].node_id, content, path)
        name = name.partition(".")[2]
    return content if _is_there(node.get("reftarget", "")) else None


def _is_there(path: str) -> bool:
    try:
        pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError):
        return False
    return path.startswith("overparam.")


def setup(app: Any) -> None:
    app.set_html_assets_policy("always")  # MathJax too: titles with formulas stand in the navigation of pages that have none of their own
    app.connect("missing-reference", short_names)
    app.connect("doctree-read", without_last_blank_line)
    app.connect("doctree-resolved", pictures_lead_to_themselves)
