"""A project full of callables in a real kernel and a real plugin host, seen through the client alone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nomaflow.client import ProjectAddress, SyncKernelClient, TriggerOrder
from nomaflow.client.values import LogLine, RunView
from nomaflow.client.values.runs import AttemptView
from real_system import Running, eventually, launch, launch_kernel, nothing_left

__all__ = ["PASSWORD", "Ran", "Stage", "open_authors", "open_stage"]

PASSWORD = "hunter2-LEAK-9"
_AUTHORS = Path(__file__).parent / "authors"
_REFERENCE = re.compile(
    r'"((?:kinds|rude|binding|returns|failures|speaking|contexts|single|gc|packaged_plugin)\b[\w.]*:[\w.]+)"'
)
_FUNCTION = re.compile(r"^(?:async )?def ([a-z]\w*)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A run that is over."""

    run: RunView
    lines: tuple[LogLine, ...]

    @property
    def it(self) -> AttemptView:
        """The last attempt of the step that was asked for."""
        return next(step.last for step in self.run.steps if step.attempts)

    @property
    def state(self) -> str:
        """The run's state."""
        return self.run.state

    @property
    def extras(self) -> Mapping[str, Any]:
        """The keys that the step returned in addition to its count."""
        assert self.run.state == "SUCCEEDED", (self.it.error, self.messages)
        return self.it.extras

    @property
    def error(self) -> str:
        """The error in the record."""
        return self.it.error

    @property
    def reason(self) -> str:
        """The code of the reason."""
        return self.it.reason.code if self.it.reason else ""

    @property
    def messages(self) -> list[str]:
        """The log lines' texts."""
        return [line.message for line in self.lines]

    @property
    def log(self) -> str:
        """The whole log as one text."""
        return "\n".join(self.messages)


@dataclass(kw_only=True)
class Stage:
    """The running project and its client."""

    project: Path
    client: SyncKernelClient
    kernel: Running
    host: Running
    logs: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def start(self, reference: str, kwargs: Mapping[str, Any] | None = None, /, **order: Any) -> str:
        """Trigger a callable's own job with these op_kwargs and return the run's id."""
        given = {"it": dict(kwargs)} if kwargs else {}
        return self.client.trigger(
            TriggerOrder(job_id=job_of(reference), steps={"it": True}, op_kwargs=given, **order)
        ).run_id

    def start_job(self, job_id: str, **order: Any) -> str:
        """Trigger a job of jobs.toml and return the run's id."""
        return self.client.trigger(TriggerOrder(job_id=job_id, **order)).run_id

    def ended(self, run_id: str) -> Ran:
        """Wait for a run to end and return it with its log."""
        run = self.client.wait(run_id)
        return Ran(run=run, lines=tuple(self.client.read_logs(run_id)))

    def run(self, reference: str, kwargs: Mapping[str, Any] | None = None, /, **order: Any) -> Ran:
        """Run a callable's own job to its end."""
        return self.ended(self.start(reference, kwargs, **order))

    def run_job(self, job_id: str, **order: Any) -> Ran:
        """Run a job of jobs.toml to its end."""
        return self.ended(self.start_job(job_id, **order))

    def run_all(self, calls: Mapping[str, tuple[str, Mapping[str, Any] | None]]) -> dict[str, Ran]:
        """Run many calls at once, by name."""
        started = {name: self.start(reference, kwargs) for name, (reference, kwargs) in calls.items()}
        return {name: self.ended(run_id) for name, run_id in started.items()}

    def run_unchecked(self, calls: Mapping[str, tuple[str, Mapping[str, Any] | None]]) -> dict[str, Ran]:
        """Run many calls that are triggered while no host is there to check their values."""
        assert self.host.stop() == 0, self.host.log
        try:
            started = {name: self.start(reference, kwargs) for name, (reference, kwargs) in calls.items()}
        finally:
            self.host = launch("nomaflow_host", self.project, log_file=self.host.log_file, environ=self.environ)
        return {name: self.ended(run_id) for name, run_id in started.items()}


def job_of(reference: str) -> str:
    """Return the id of the job that a reference gets."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", reference)


@contextmanager
def open_authors(folder: Path, *, spawned: bool) -> Iterator[Stage]:
    """Start kernel and host on a copy of the authors' project; leave nothing behind.

    :param spawned: whether a plugin makes forking impossible
    """
    project = folder / "authors"
    shutil.copytree(_AUTHORS, project)
    (project / "plugins" / "failures" / "on_import_syntax.txt").rename(
        project / "plugins" / "failures" / "on_import_syntax.py"
    )
    if spawned:
        (project / "threads_at_import.txt").rename(project / "plugins" / "threads_at_import.py")
    with (project / "jobs.toml").open("a") as jobs:
        jobs.writelines(_own_job(reference) for reference in sorted(_references()))
    environ = {"SECRETIVE_PASSWORD": PASSWORD, "PORT_OF_TEST": "not-a-port", "NOMAFLOW_TRACE_HOOKS": "1"}
    with open_stage(project, folder, environ, host_environ={"PYTHONPATH": str(project / "site")}) as stage:
        yield stage


@contextmanager
def open_stage(
    project: Path, logs: Path, environ: Mapping[str, str], *, host_environ: Mapping[str, str] | None = None
) -> Iterator[Stage]:
    """Start kernel and host on a project; stop them without an error, and leave nothing behind.

    :param host_environ: what the environment of the host has in addition to that of both
    """
    kernel = launch_kernel(project, log_file=logs / "kernel.log", environ=environ)
    environ = {**environ, **(host_environ or {})}
    host = launch("nomaflow_host", project, log_file=logs / "host.log", environ=environ)
    try:
        with SyncKernelClient(ProjectAddress(project=project), by="tester") as client:
            eventually(lambda: client.list_jobs().jobs or host.ended)
            assert not host.ended, host.log
            stage = Stage(project=project, client=client, kernel=kernel, host=host, logs=logs, environ=environ)
            yield stage
        host = stage.host
        assert host.stop() == 0, host.log
        assert kernel.stop() == 0, kernel.log
    finally:
        host.kill()
        kernel.kill()
    eventually(lambda: nothing_left(project))


def _references() -> set[str]:
    """Return every reference that a test of the contract names, and every function of the authors' modules.

    Each gets a job of its own, whose step is switched on by a run.
    """
    named = {
        reference
        for path in Path(__file__).parent.glob("test_contract_*.py")
        for reference in _REFERENCE.findall(path.read_text())
    }
    plugins = _AUTHORS / "plugins"
    for path in plugins.rglob("*.py"):
        module = ".".join(path.relative_to(plugins).with_suffix("").parts)
        named |= {f"{module}:{name}" for name in _FUNCTION.findall(path.read_text())}
    return named


def _own_job(reference: str) -> str:
    job = f'\n[[jobs]]\nid = "{job_of(reference)}"\noverlap = "allow"\n\n'
    return job + f'[[jobs.steps]]\nname = "it"\nenabled = false\ncallable = "{reference}"\n'
