"""One project for the kernel and its hosts, started, killed and asked as a person does it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from real_system import CLOCKS, Running, System, eventually, nothing_left

__all__ = ["CODE", "ProjectSystem", "open_system"]

CODE = '''"""Steps that do as they are told."""

import asyncio
import logging
import os
from pathlib import Path

_log = logging.getLogger(__name__)


class Flaky(ConnectionError):
    """Raised as often as asked."""


async def count(*, ctx, rows: int = 1, day: str = "", **_):
    _log.debug("counting")
    return {"rows_affected": rows, "day": day, "level": ctx.log_level, "params": dict(ctx.params),
            "chain": [job for job, _ in ctx.parent_chain], "before": ctx.prev_rows_affected}


async def strict(*, rows: int = 1):
    return rows


async def wait_for(*, file: str, **_):
    """Return once a file is there."""
    while not Path(file).exists():
        await asyncio.sleep(0.01)
    return {"seen": True}


async def fail(*, ctx, times: int = 99, error: str = "Flaky"):
    if ctx.attempt <= times:
        raise {"Flaky": Flaky, "Value": ValueError}[error](f"try {ctx.attempt}")
    return ctx.attempt


async def sleep(*, seconds: float = 60.0):
    await asyncio.sleep(seconds)


async def home(*, where: str):
    return {"where": where}


async def die():
    os._exit(7)
'''


@dataclass(kw_only=True)
class ProjectSystem(System):
    """The processes of one project; no busy machine ends a session."""

    root: Path = field(init=False)
    project: Path
    kernel_flags: Sequence[str] = (*CLOCKS[:2], "--lease-seconds", "20")

    def __post_init__(self) -> None:
        self.root = self.kernel_project = self.project
        super().__post_init__()

    def write(self, jobs: str, *, code: str = CODE) -> None:
        """Write the project's jobs and its one module."""
        folder = self.project / "plugins" / "team"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "code.py").write_text(code)
        (self.project / "jobs.toml").write_text(jobs)

    def start_host(self, *flags: str, project: Path | None = None, name: str = "host") -> Running:
        """Start a host and wait until it is past its first load: until then the kernel knows only its jobs of before."""
        part = self.launch_host(name, project or self.project, *flags, environ={"HOME_OF_TEST": "/h"})
        eventually(lambda: self._has_loaded(part.pid) or part.ended)
        assert not part.ended, part.log
        return part

    def _has_loaded(self, pid: int) -> bool:
        instances = [instance for host in self.api.list_hosts() for instance in host.instances]
        return any(each.pid == pid and each.state != "LOADING" for each in instances)

    def ask(self, *arguments: str, code: int | None = 0) -> Any:
        """Run the command with ``-o json`` and return its object."""
        return self.cli(*arguments, "-o", "json", code=code).json

    def hosts(self) -> list[dict[str, Any]]:
        """Return the hosts as the client shows them."""
        return [host.to_json() for host in self.api.list_hosts()]

    def jobs(self) -> dict[str, Any]:
        """Return the jobs by id, removed ones included."""
        return {job.job_id: job for job in self.api.list_jobs(include_removed=True).jobs}

    def runs(self, job_id: str) -> list[Any]:
        """Return the runs of a job, oldest first."""
        return list(self.api.list_runs(job_id=job_id))[::-1]

    def until_fired(self, *job_ids: str) -> None:
        """Wait until a new run of each job has succeeded."""
        for job_id in job_ids:
            new = partial(self.api.list_runs, job_id=job_id, states=["SUCCEEDED"], since=datetime.now(UTC), page_size=1)
            eventually(lambda new=new: any(True for _ in new()))

    def until(self, run_id: str, *states: str) -> Any:
        """Wait until a run is in one of the states, and return it."""
        return eventually(lambda: run if (run := self.run(run_id)).state in states else None)


def open_system(folder: Path, *, forks_templates: bool = False) -> Iterator[ProjectSystem]:
    """Yield a system without processes; stop what the test has started, and leave nothing behind."""
    system = ProjectSystem(project=folder, forks_templates=forks_templates)
    try:
        yield system
    finally:
        system.close()
    eventually(lambda: nothing_left(folder))
