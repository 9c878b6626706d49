"""The README's examples print what the README says, and the user guide's code runs.

A ``python`` block followed by a ``text`` block is an example and its output. After a change that moves the numbers:

    python tests/test_readme.py --update
"""

import contextlib
import io
import re
import sys
import textwrap
from pathlib import Path

import pytest

from skuq import backends

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<output>.*?)```", re.DOTALL)
RST_CODE = re.compile(r"^\.\. code-block:: python\n\n(?P<code>(?:    .*\n|\n)+)", re.MULTILINE)
NUMBER = re.compile(r"\d+(?:\.\d+)?")

needs_backend = pytest.mark.skipif(not backends.available(), reason="no backend is installed")


def examples() -> list[re.Match]:
    return list(EXAMPLE.finditer(README.read_text(encoding="utf-8")))


def run(code: str) -> str:
    """What the code prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "<example>", "exec"), {"__name__": "__main__"})
    return printed.getvalue()


def update():
    """Rewrite the README's outputs."""
    text = README.read_text(encoding="utf-8")
    text = EXAMPLE.sub(lambda m: f"```python\n{m['code']}```\n\n```text\n{run(m['code'])}```", text)
    README.write_text(text, encoding="utf-8")


def test_readme_has_both_examples():
    assert ["Regressor" in m["code"] for m in examples()] == [True, False]
    assert all(len([line for line in m["code"].splitlines() if line.strip()]) <= 10 for m in examples())


@needs_backend
@pytest.mark.xdist_group("tensorflow")
@pytest.mark.parametrize("example", examples(), ids=["regression", "classification"])
def test_readme_output_is_real(example):
    printed = run(example["code"])
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", example["output"])
    # Rounding differs between machines and backends, and training carries it on: numbers agree to a few percent.
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (printed, example["output"])]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.1, abs=0.05)


@needs_backend
@pytest.mark.xdist_group("tensorflow")
def test_user_guide_runs():
    blocks = RST_CODE.findall((ROOT / "docs" / "user_guide.rst").read_text(encoding="utf-8"))
    assert len(blocks) > 3
    run("\n".join(textwrap.dedent(block) for block in blocks))


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit("usage: python tests/test_readme.py --update")
    update()
