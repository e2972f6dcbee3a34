"""The link to the secrets process, with a plugin whose readers take as long as a test wants."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nomaflow_host.supervisor import secrets_link
from nomaflow_host.supervisor.secrets_link import SecretsLink
from nomaflow_project.reading.sources import Reference
from waiting import PATIENCE, eventually

PLUGIN = """
import os, time
from pathlib import Path
from nomaflow import hookimpl

@hookimpl
def nomaflow_secrets(environ):
    def read(rest):
        Path(rest + ".begun").touch()
        while not Path(rest).exists():
            time.sleep(0.01)
        return f"{Path(rest).name} of {environ['TEAM']}, {os.getpid()}"
    return {"slow": read}
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Return variables with which a process finds the plugin."""
    (tmp_path / "slow_secrets.py").write_text(PLUGIN)
    info = tmp_path / "slow_secrets-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-secrets\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[nomaflow.plugins]\nslow = slow_secrets\n")
    return {**os.environ, "PYTHONPATH": str(tmp_path), "TEAM": "red"}


@pytest.fixture
async def link() -> AsyncIterator[SecretsLink]:
    """Return a link, and end its process."""
    made = SecretsLink()
    yield made
    made.close()


async def test_a_question_outlives_a_change_of_the_variables(
    link: SecretsLink, environ: dict[str, str], tmp_path: Path
) -> None:
    """A reload that changes variables fails no attempt that has just begun; the process before ends after it."""
    first, second = (Reference("slow", str(tmp_path / name)) for name in ("first", "second"))
    asked = asyncio.create_task(link.values([first], environ))
    await eventually((tmp_path / "first.begun").exists)
    before = link._process
    Path(second.rest).touch()
    answers = await link.values([second], {**environ, "TEAM": "blue"})
    assert str(answers[second]).startswith("second of blue, ")
    Path(first.rest).touch()
    assert str((await asked)[first]).startswith("first of red, ")
    assert before is not None
    assert before.ended


async def test_a_reader_that_hangs_fails_nobody_else(
    link: SecretsLink, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question is answered as late; the others get their values, and the next question another process."""
    ready, hung, other, later = (
        Reference("slow", str(tmp_path / name)) for name in ("ready", "hung", "other", "later")
    )
    for each in (ready, later):
        Path(each.rest).touch()
    await link.values([ready], environ)
    process = link._process
    monkeypatch.setattr(secrets_link, "_ANSWER_SECONDS", 0.5)
    late = asyncio.create_task(link.values([hung], environ))
    await eventually((tmp_path / "hung.begun").exists)
    monkeypatch.setattr(secrets_link, "_ANSWER_SECONDS", PATIENCE)
    asked = asyncio.create_task(link.values([other], environ))
    assert "no answer within 0.5 s" in str((await late)[hung])
    assert str((await link.values([later], environ))[later]).startswith("later of red, ")
    assert not asked.done()
    Path(other.rest).touch()
    assert str((await asked)[other]).startswith("other of red, ")
    assert process is not None
    assert process.ended
    assert link._process is not process
