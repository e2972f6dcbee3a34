"""Starts of a host that are refused: the machine or the environment is not as it has to be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from host_process import MakeKernel, Start, exit_code


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("NOMAFLOW_HOST_MAX_SYNC", "NOMAFLOW_HOST_MAX_SYNC has no meaning: write max_sync in nomaflow.toml"),
        ("NOMAFLOW_HOST_MAX_SYNK", "NOMAFLOW_HOST_MAX_SYNK has no meaning: write max_sync in nomaflow.toml"),
        ("NOMAFLOW_HOST_STATEDIR", "NOMAFLOW_HOST_STATEDIR is unknown; did you mean NOMAFLOW_HOST_STATE_DIR?"),
    ],
)
async def test_a_variable_that_sets_nothing_is_named(start: Start, name: str, told: str) -> None:
    """A variable that is misspelt, or named after a key that has none, ends the host with the way out."""
    mine = await start(environ={name: "3"})
    assert await exit_code(mine) == 78
    assert mine.log == f"nomaflow host: {told}\n"


async def test_every_variable_in_the_help_is_taken(start: Start, project: Path) -> None:
    """The variables of the flags, and one that Kubernetes sets for a service, are not refused."""
    asked = await start("--help", environ={"COLUMNS": "200"})
    assert await exit_code(asked) == 0
    shown = re.findall(r"\[(NOMAFLOW_HOST_\w+)\]", asked.log)
    assert len(shown) == 9
    (project / "nomaflow.toml").write_text("[host\n")
    mine = await start(environ=dict.fromkeys((*shown, "NOMAFLOW_HOST_SERVICE_PORT"), ""))
    assert await exit_code(mine) == 78
    assert "nomaflow.toml:1" in mine.log


@pytest.mark.parametrize(("files", "told"), [(16, ""), (40, ""), (84, "or set max_sync = 1 in [host]")])
async def test_too_few_open_files_are_told(start: Start, files: int, told: str) -> None:
    """A host that may not open the files of its workers ends with 78, the number it needs, and the ways out."""
    mine = await start(side=("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"))
    assert await exit_code(mine) == 78
    assert "Traceback" not in mine.log
    assert f"the host may have {files} files open, and needs 94 for 1 shared workers and 2 steps" in mine.log
    assert "fix: raise the hard limit to 94 or more" in mine.log
    assert told in mine.log


async def test_shared_workers_are_kept_where_files_are_few(start: Start, project: Path) -> None:
    """The way out takes no shared worker away as long as one step in a worker of its own fits beside them."""
    (project / "nomaflow.toml").write_text("[host]\nshared_workers = 64\nmax_sync = 512\n")
    mine = await start(side=("sh", "-c", 'ulimit -n 4096; exec "$@"', "sh"))
    assert await exit_code(mine) == 78
    assert "or set max_sync = 339 in [host]" in mine.log
    (project / "nomaflow.toml").write_text("[host]\nshared_workers = 512\nmax_sync = 512\n")
    mine = await start(side=("sh", "-c", 'ulimit -n 4096; exec "$@"', "sh"))
    assert await exit_code(mine) == 78
    assert "or set shared_workers = 1 and max_sync = 402 in [host]" in mine.log


async def test_a_default_does_not_refuse_the_start(start: Start, kernels: MakeKernel, project: Path) -> None:
    """A machine of many cores with few open files starts its host with fewer steps in workers of their own."""
    (project / "nomaflow.toml").write_text("[host]\nshared_workers = 1\n")
    kernel = await kernels()
    await start(side=("sh", "-c", 'ulimit -n 100; exec "$@"', "sh"))
    session = await kernel.session()
    assert session.hello.max_sync == 2
