"""Sphinx's configuration: `sphinx-build -W -n docs docs/_build`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "pytest_plugin"), str(ROOT / "docs" / "_ext")]

project = "cachesim"
author = "The cachesim developers"
copyright = author  # the name that Sphinx requires
html_theme = "furo"
html_title = "cachesim"
smartquotes = False  # so that readers can copy commands
exclude_patterns = ["_build"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "generated"]

# In docstrings, as in Markdown, single backticks mean code.
default_role = "literal"
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
# There are no pages for other projects' names, nor for our undocumented functions and aliases.
nitpick_ignore_regex = [("py:.*", r"(?!cachesim\.).*"), ("py:.*", r"cachesim\..*\.[a-z_]+")]
# A type variable of a base class, `Fault` for its users; and JSON that has no page.
nitpick_ignore = [
    ("py:class", "cachesim.simulator.faults_of_servers.FaultT"),
    ("py:class", "cachesim.runs.calls.Status"),  # JSON, as `cachesim status --json` prints it
]
