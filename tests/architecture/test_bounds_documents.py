"""The bounds that the documentation names are those of the code."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path

import nomaflow.client.channels  # noqa: F401 - its import sets a variable, which a test must not
from nomaflow_api import bounds
from nomaflow_host.supervisor.pool import KEYS_IN_ALL
from nomaflow_project.jobs import definitions
from nomaflow_project.models.settings_file import HostSection
from nomaflow_project.reading.problems import Place
from nomaflow_project.reading.validation import validate

DOCS = Path(__file__).parents[2] / "docs" / "grpc_api.md"


def test_the_table_of_bounds_has_their_numbers() -> None:
    """Each row names a constant and its value."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([0-9,]+) \| ", DOCS.read_text(), re.MULTILINE)
    assert len(rows) == 19
    assert [(name, f"{getattr(bounds, name):,}") for name, _ in rows] == rows


def test_every_bound_is_told_with_its_reason() -> None:
    """A constant without a sentence below it is a number that nobody dares to change."""
    text = Path(bounds.__file__).read_text()
    names = re.findall(r"^([A-Z_]+) = .*\n\"\"\"[A-Z`]", text, re.MULTILINE)
    assert sorted(names) == sorted(name for name in vars(bounds) if name.isupper())


def test_no_host_comes_with_more_than_a_kernel_takes() -> None:
    """V10: all attempts of the largest settings fit into a hello, and those that workers name into a heartbeat."""
    for name in ("max_async", "max_sync"):
        section, [problem] = validate(HostSection, {name: bounds.INVENTORY // 2 + 1}, Place("nomaflow.toml", "host"))
        assert section is None
        assert problem.message.endswith("is too large, expected at most 10,000")
    assert bounds.KEYS_OF_INSTANCE >= KEYS_IN_ALL


def test_the_steps_of_a_job_have_one_bound() -> None:
    """The reader of jobs.toml has the same."""
    assert definitions.STEPS_OF_JOB == bounds.STEPS_OF_JOB


def test_the_examples_of_the_page_run_when_pasted() -> None:
    """Each imports what it uses, from where it is."""
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        known: dict[str, object] = dict(vars(builtins))
        tree = ast.parse(block)
        imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(ast.Module(imports, type_ignores=[]), str(DOCS), "exec"), known)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
        made |= {str(node.name) for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)}
        assert {node.id for node in names} - made - known.keys() == set()
