"""References that reach for what is no step: refused at load by name, with nothing imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nomaflow_cli.lint.locating import locate
from nomaflow_cli.lint.module_source import Sources
from nomaflow_host.injection.errors import PreparationFailed
from nomaflow_host.injection.references import check_reference
from nomaflow_project.check.project import check_project
from nomaflow_project.reading.callable_references import reference_error

HOSTILE = [
    "../x:f",
    "../../etc/passwd",
    "/abs:f",
    "m:f.__globals__",
    "m:__import__",
    "m.__main__:f",
    "builtins:__import__",
    "оs:system",  # the first letter is Cyrillic
    "os:ѕystem",
    "." * 10_000,
    "m:" + "f." * 5000 + "f",
    "a" * 250 + ":f",
    "m:" + "f" * 201,
    "m:f:g",
    "m",
    ":",
    "",
    "m :f",
    "m:f\x00",
    "m:f\n",
    "m\\x:f",
    "m:f()",
    "-m:f",
    "${HOME}:f",
]


@pytest.mark.parametrize("reference", HOSTILE, ids=lambda text: repr(text[:20]))
def test_no_such_reference_is_ever_imported(reference: str, tmp_path: Path) -> None:
    """The reader, the host and the finder of sources all refuse it before they look for a module."""
    problem = reference_error(reference)
    assert problem is not None
    assert len(problem) < 400
    with pytest.raises(PreparationFailed, match="does not name a callable"):
        check_reference(reference)
    assert locate(reference, Sources(tmp_path)) is None


def test_a_job_with_such_a_reference_is_disabled_and_the_others_are_not(tmp_path: Path) -> None:
    """Each has its problem, by name; the job beside them loads, and checking has imported nothing."""
    tables = "".join(
        f"[[jobs]]\nid = 'bad-{number}'\nsteps = [{{ type = 'python', callable = {_quoted(reference)} }}]\n"
        for number, reference in enumerate(HOSTILE)
        if reference and "$" not in reference
    )
    (tmp_path / "jobs.toml").write_text(
        f"{tables}[[jobs]]\nid = 'good'\nsteps = [{{ type = 'python', callable = 'm:f' }}]\n"
    )
    before = set(sys.modules)
    report = check_project(tmp_path, environ={})
    assert [job.job_id for job in report.jobs if job.valid] == ["good"]
    assert {problem.code for job in report.jobs for problem in job.problems} == {"bad_callable"}
    assert not {"x", "m", "m.__main__", "a" * 250} & (set(sys.modules) - before)


def test_the_check_ends_with_problems_and_no_traceback(tmp_path: Path) -> None:
    """A part of a module that is longer than a file's name may be does not end the command line."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "jobs.toml").write_text(
        f"[[jobs]]\nid = 'a'\nsteps = [{{ type = 'python', callable = '{'a' * 253}:f' }}]\n"
    )
    command = [sys.executable, "-m", "nomaflow_cli", "check", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "has 253 characters, expected at most 200" in " ".join(done.stdout.split())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("\x00", "\\u0000").replace("\n", "\\n")
    return f'"{escaped}"'
