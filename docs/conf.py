"""Sphinx settings: ``make docs`` builds with warnings as errors."""

from __future__ import annotations

from wormhole_tw import __version__

project = "wormhole-tw"
author = "the wormhole-tw authors"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "examples"]
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_title = f"wormhole-tw {release}"
html_static_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 4

# The page list takes what is there, and there may be no decision yet.
suppress_warnings = ["toc.empty_glob"]

autodoc_typehints = "description"
autodoc_member_order = "bysource"
