"""Pitfalls in ``nomaflow check``, by the real command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_command import command_in

JOBS = """
[[jobs]]
id = "bad"
steps = [{ callable = "mod:step", op_kwargs = { a = 1 } }, { callable = "mod:quiet" }, { callable = "mod:gone" }]
"""
SOURCE = """raise SystemExit("never imported by --no-import")
def step(a, **_):
    try:
        print(a)
    except Exception:
        pass
def quiet(a=1, **_): ...  # noqa: NF101
def unnamed(a): ...
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Write a project with two pitfalls in what its job names, one silenced."""
    (tmp_path / "jobs.toml").write_text(JOBS)
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "mod.py").write_text(SOURCE)
    return tmp_path


async def test_check_answers_with_place_and_fix(project: Path) -> None:
    """Pitfalls are warnings with code, file and line, the way out, and how to silence them; the check passes."""
    done = await command_in(project)("check", "--no-import", "-o", "json")
    report = json.loads(done.out)
    assert (done.code, report["ok"]) == (0, True)
    found = [(each["severity"], each["code"], each["file"], each["line"]) for each in report["problems"]]
    assert found == [("warning", "NF101", "plugins/mod.py", 2), ("warning", "NF104", "plugins/mod.py", 5)]
    assert report["problems"][0]["fix"] == "put *, before the first parameter; if intended, add: # noqa: NF101"


async def test_check_shows_them(project: Path) -> None:
    """A pitfall is shown on a terminal with its place and fix."""
    done = await command_in(project)("check", "--no-import")
    assert "! 'step' has positional parameters ('a'), and steps call by name" in done.out
    assert "  in plugins/mod.py:2\n" in "\n".join(line.rstrip() for line in done.out.split("\n"))
    assert "put *, before the first parameter" in done.out
