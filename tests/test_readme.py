"""The README's examples and the page on tables print what they say, and the user guide's code runs.

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
TABLES = ROOT / "docs" / "tables.rst"
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<output>.*?)```", re.DOTALL)
RST_CODE = re.compile(r"^\.\. code-block:: python\n\n(?P<code>(?:    .*\n|\n)+)", re.MULTILINE)
RST_EXAMPLE = re.compile(RST_CODE.pattern + r"\.\. code-block:: text\n\n(?P<output>(?:    .*\n|\n)+)", re.MULTILINE)
NUMBER = re.compile(r"\d+(?:\.\d+)?")

needs_backend = pytest.mark.skipif(not backends.available(), reason="no backend is installed")


def examples() -> list[re.Match]:
    return list(EXAMPLE.finditer(README.read_text(encoding="utf-8")))


def run(code: str, namespace: dict | None = None) -> str:
    """What the code prints; names that it sets stay in `namespace`."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "<example>", "exec"), {"__name__": "__main__"} if namespace is None else namespace)
    return printed.getvalue()


def assert_prints(printed: str, said: str):
    """The same words, and numbers that agree to a few percent.

    Rounding differs between machines and backends, and training carries it on.
    """
    assert NUMBER.sub("#", printed) == NUMBER.sub("#", said)
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in (printed, said)]
    assert numbers[0] == pytest.approx(numbers[1], rel=0.1, abs=0.05)


def update():
    """Rewrite the outputs in the README and on the page on tables."""
    text = README.read_text(encoding="utf-8")
    text = EXAMPLE.sub(lambda m: f"```python\n{m['code']}```\n\n```text\n{run(m['code'])}```", text)
    README.write_text(text, encoding="utf-8")
    names = {"__name__": "__main__"}

    def rewritten(match):
        printed = textwrap.indent(run(textwrap.dedent(match["code"]), names), "    ")
        return f".. code-block:: python\n\n{match['code']}.. code-block:: text\n\n{printed}\n"

    text = RST_EXAMPLE.sub(rewritten, TABLES.read_text(encoding="utf-8"))
    TABLES.write_text(text, encoding="utf-8")


def test_readme_has_both_examples():
    assert ["Regressor" in m["code"] for m in examples()] == [True, False]
    assert all(len([line for line in m["code"].splitlines() if line.strip()]) <= 10 for m in examples())


@needs_backend
@pytest.mark.xdist_group("tensorflow")
@pytest.mark.parametrize("example", examples(), ids=["regression", "classification"])
def test_readme_output_is_real(example):
    assert_prints(run(example["code"]), example["output"])


@needs_backend
@pytest.mark.xdist_group("tensorflow")
def test_user_guide_runs():
    blocks = RST_CODE.findall((ROOT / "docs" / "user_guide.rst").read_text(encoding="utf-8"))
    assert len(blocks) > 3
    run("\n".join(textwrap.dedent(block) for block in blocks))


@needs_backend
@pytest.mark.xdist_group("tensorflow")
def test_page_on_tables_runs_from_top_to_bottom_and_prints_what_it_says():
    text = TABLES.read_text(encoding="utf-8")
    examples = list(RST_EXAMPLE.finditer(text))
    assert len(examples) == text.count(".. code-block:: python") > 5
    names = {"__name__": "__main__"}
    for example in examples:
        assert_prints(run(textwrap.dedent(example["code"]), names), textwrap.dedent(example["output"]).strip() + "\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit("usage: python tests/test_readme.py --update")
    update()
