"""Sphinx settings: MyST Markdown, the default theme, no network."""

project = "secagg"
author = "the secagg maintainers"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
html_theme = "alabaster"
html_theme_options = {"description": "Secure aggregation for federated learning", "page_width": "1000px"}
html_sidebars = {"**": ["about.html", "navigation.html", "searchfield.html"]}
