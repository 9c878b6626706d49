"""Sphinx configuration."""

from importlib.metadata import version as installed_version

project = "skuq"
author = "The skuq developers"
copyright = "The skuq developers"
version = release = installed_version("skuq")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "alabaster"
html_theme_options = {
    "description": "Uncertainty estimators for scikit-learn",
    "fixed_sidebar": True,
    "page_width": "1100px",
}

autosummary_generate = True
autosummary_ignore_module_all = False
# Members are listed by the templates; numpydoc would list them a second time.
numpydoc_show_class_members = False
autodoc_typehints = "none"


def _skip_request_methods(app, what, name, obj, skip, options):
    # scikit-learn writes them; their text refers to pages of its own documentation.
    return True if name.startswith("set_") and name.endswith("_request") else None


def setup(app):
    """Connect what autodoc asks."""
    app.connect("autodoc-skip-member", _skip_request_methods)
