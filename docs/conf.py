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
