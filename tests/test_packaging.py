"""What is shipped, and that files which say the same thing agree."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from shutil import copy2, copytree, ignore_patterns

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PRE_COMMIT = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CONSTRAINTS = dict(
    re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Names of the files in the wheel, and its METADATA, built by the declared backend from what is tracked."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy2(ROOT / name, source)
    for name in ("skuq", "tests"):
        copytree(ROOT / name, source / name, ignore=ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    (source / "dist").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next((source / "dist").glob("*.whl"))) as file:
        metadata = next(name for name in file.namelist() if name.endswith("METADATA"))
        return file.namelist(), file.read(metadata).decode()


def test_wheel_holds_the_package_with_its_types_and_nothing_else(wheel):
    shipped = {name for name in wheel[0] if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "skuq").rglob("*.py")}
    assert shipped == modules | {"skuq/py.typed"}


def test_metadata_names_the_pythons_that_are_tested(wheel):
    classified = re.findall(r"^Classifier: Programming Language :: Python :: (3\.\d+)$", wheel[1], re.MULTILINE)
    assert classified == WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert PROJECT["requires-python"] == f">={classified[0]}"


def test_extra_all_holds_every_extra_of_users():
    (everything,) = PROJECT["optional-dependencies"]["all"]
    named = set(re.fullmatch(r"skuq\[(.*)\]", everything)[1].split(","))
    assert named == set(PROJECT["optional-dependencies"]) - {"all", "test", "docs"}


def test_citation_has_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert f"[{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_workflow_runs_targets_that_there_are():
    targets = set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))
    commands = [step["run"] for job in WORKFLOW["jobs"].values() for step in job["steps"] if "run" in step]
    called = {re.match(r"make ([\w-]+)", command)[1] for command in commands}
    assert called == {"test", "docs", "coverage"}
    assert called <= targets


def test_pre_commit_uses_the_tested_versions_and_no_local_environment():
    tools = {"ruff-pre-commit": "ruff", "mirrors-mypy": "mypy", "import-linter": "import-linter"}
    found = {tools[repo["repo"].rpartition("/")[2]]: repo["rev"] for repo in PRE_COMMIT["repos"]}
    assert found == {tool: f"v{CONSTRAINTS[tool]}" for tool in tools.values()}
    (mypy,) = (hook for repo in PRE_COMMIT["repos"] for hook in repo["hooks"] if hook["id"] == "mypy")
    assert mypy["additional_dependencies"] == [f"numpy=={CONSTRAINTS['numpy']}"]
