"""Sphinx's settings. `make docs` builds the pages into docs/_build/html."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tools"))

import fastdecode  # noqa: E402
import student_notebook  # noqa: E402

project = "fastdecode"
author = "The fastdecode authors"
release = version = fastdecode.__version__

extensions = [
    "myst_nb",
    "mathml",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_math_renderer = "mathml"
exclude_patterns = ["_build", "_made", "conf.py", "jupyter_execute"]

nb_custom_formats = {".py": ["student_notebook.page", {}]}
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = "fastdecode"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_theme_options = {"navigation_with_keys": True}

# Both notebooks are made from the annotated one, so that they cannot drift apart.
_ANNOTATED = DOCS / "notebooks" / "prediction_to_generation.py"
student_notebook.write(_ANNOTATED, DOCS / "_made" / "prediction_to_generation_students.ipynb")
student_notebook.write_complete(_ANNOTATED, DOCS / "_made" / "prediction_to_generation.ipynb")
