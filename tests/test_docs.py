"""The documentation names every public object, and builds without a warning."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

from skuq import backends, scorers

DOCS = Path(__file__).parent.parent / "docs"
PACKAGES = (
    "skuq",
    *(f"skuq.{name}" for name in ["calibration", "composites", "likelihoods", "metrics", "plot", "scorers", "utils"]),
)


def listed() -> set[str]:
    """Full names that the API reference lists."""
    found, module = set(), ""
    for line in (DOCS / "api.rst").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\.\. (?:currentmodule|automodule):: (\S+)", line):
            module = match[1]
            found.add(module)
        elif match := re.match(r"   ([A-Za-z_]\w*)$", line):
            found.add(f"{module}.{match[1]}")
    return found


def public() -> dict[str, object]:
    """Public objects by full name; what two packages share stands once, in the first."""
    found: dict[str, object] = {}
    for package in map(importlib.import_module, PACKAGES):
        for name in package.__all__:
            value = getattr(package, name)
            if not any(value is other for other in found.values()):
                found[value.__name__ if inspect.ismodule(value) else f"{package.__name__}.{name}"] = value
    return found


def test_reference_lists_every_public_object_and_no_other():
    # The scorers are objects of one class; their names stand in the table of their module.
    objects = {name: value for name, value in public().items() if not isinstance(value, scorers.UncertaintyScorer)}
    names = {name for name in listed() if not inspect.ismodule(resolve(name))}
    assert {name for name, value in objects.items() if not inspect.ismodule(value)} - names == set()
    assert names - set(objects) == {"skuq.backends.available"}
    assert set(PACKAGES) - {"skuq"} <= listed()


def resolve(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)


def test_table_of_scorers_names_each():
    table = re.findall(r"^(\w+)(?:\(X_ood\))?  ", scorers.__doc__, re.MULTILINE)
    assert set(scorers.get_scorer_names()) <= set(table)


def test_every_public_object_has_a_docstring_with_its_parameters():
    for name, value in public().items():
        assert inspect.getdoc(value), name
        if inspect.isclass(value) and name.startswith("skuq.plot"):
            parameters = set(inspect.signature(value).parameters)
            documented = re.findall(r"^([\w, ]+) : ", inspect.getdoc(value).split("Examples")[0], re.MULTILINE)
            assert parameters <= {part for line in documented for part in line.split(", ")}, name


@pytest.mark.skipif(not backends.available(), reason="no backend is installed")
def test_documentation_builds_without_a_warning(tmp_path):
    # A copy, so that what Sphinx generates stays out of the tree. The builder "dummy" reads and resolves all, and writes no page.
    copytree(DOCS, tmp_path / "docs", ignore=ignore_patterns("_build", "api"))
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "dummy", "-W", "--keep-going", "docs", "out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
