"""Sphinx settings: MyST Markdown, the default theme, no network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import guarantee_tables  # noqa: E402

guarantee_tables.write(HERE / "_generated" / "guarantees.md")

project = "secagg"
author = "the secagg maintainers"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_generated"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Secure aggregation for federated learning", "page_width": "1000px"}
html_sidebars = {"**": ["about.html", "navigation.html", "searchfield.html"]}
