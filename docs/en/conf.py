# Copyright (c) sdd_mm contributors. All rights reserved.
"""Sphinx: `make docs` builds these pages to docs/en/_build."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from sdd_mm import __version__  # noqa: E402

project = 'sdd_mm'
author = copyright = 'sdd_mm contributors'
release = version = __version__
extensions = [
    'myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon',
    'sphinx.ext.mathjax'
]
myst_heading_anchors = 3
# links to files of the repository are for who reads it there
suppress_warnings = ['myst.xref_missing']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'sdd_mm {release}'
html_static_path = ['_static']
html_css_files = ['wide.css']
autodoc_typehints = 'none'  # the docstrings have them
autodoc_member_order = 'bysource'
