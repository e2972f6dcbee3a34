"""A supervisor with real processes, and a sink that remembers."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nomaflow_api.v1.letter_words import FinishedState, LogCodec
from nomaflow_api.v1.letters import (
    AttemptOrder,
    CancelOrder,
    DispatchOrder,
    Finished,
    LogChunk,
    Progress,
    Started,
    Stopping,
)
from nomaflow_api.v1.log_lines import LogLine, decode_line, split_lines
from nomaflow_api.v1.sealing import seal
from nomaflow_host.generation.spec import ProjectSpec
from nomaflow_host.project.project import Project
from nomaflow_host.reaper.proc import ProcessIdentity
from nomaflow_host.supervisor.settings import SupervisorSettings
from nomaflow_host.supervisor.supervisor import Supervisor
from nomaflow_host.supervisor.values import LoadOutcome
from nomaflow_kernel.engine.attempt_end import reported_end
from nomaflow_project.connectors.connector_set import ConnectorSet
from nomaflow_project.models.settings_file import HostSection
from nomaflow_project.reading.sources import ProjectSources
from processes import is_alive, pids_below, process_name
from waiting import PATIENCE, eventually

__all__ = [
    "HOSTILE", "Host", "Sink", "StartHost", "descriptors_left", "is_alive", "pids_below", "process_name", "shared",
]  # fmt: skip

shared = pytest.mark.asyncio(loop_scope="module")
"""Marks a test that takes the fixture ``host``: the loop in which the host that a module shares was started."""
fresh = pytest.mark.usefixtures("fresh_reapers")
"""Marks a test of how reapers live and die, or of what processes inherit."""
HOSTILE = Path(__file__).parent / "hostile"
UNFORKABLE = Path(__file__).parent / "unforkable"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of an attempt as the kernel reads it: the host's event, with the worker's outcome opened."""

    state: FinishedState
    reason_code: str
    reason: str
    error: str
    rows_affected: int | None
    extras_json: bytes
    has_result: bool
    exception_types: tuple[str, ...]
    warnings: tuple[str, ...]
    not_started: bool
    peak_rss_bytes: int
    cpu_seconds: float
    at_us: int

    @classmethod
    def of(cls, event: Finished) -> Ended:
        """Open an event."""
        told = reported_end(event)
        return cls(
            state=event.state,
            reason_code=told.reason.code if told.reason else "",
            reason=told.reason.message if told.reason else "",
            error=told.error,
            rows_affected=told.rows_affected,
            extras_json=told.extras_json,
            has_result=told.has_result,
            exception_types=told.exception_types,
            warnings=tuple(told.data.get("warnings", ())),
            not_started=told.data.get("not_started", False),
            peak_rss_bytes=told.peak_rss_bytes,
            cpu_seconds=told.cpu_seconds,
            at_us=event.at_us,
        )


class Sink:
    """An AttemptSink that remembers everything, and checks the order of things."""

    def __init__(self) -> None:
        self.starts: dict[str, Started] = {}
        self.chunks: dict[str, list[LogChunk]] = {}
        self.said: dict[str, list[Progress]] = {}
        self.rungs: dict[str, list[Stopping]] = {}
        self.ends: dict[str, Ended] = {}
        self.finishes: dict[str, Finished] = {}
        self.ended_at: dict[str, float] = {}
        self.open = True
        self._changed = asyncio.Event()

    def started(self, attempt_key: str, event: Started) -> None:
        assert attempt_key not in self.starts
        assert attempt_key not in self.ends
        self.starts[attempt_key] = event
        self._changed.set()

    def log(self, attempt_key: str, event: LogChunk) -> None:
        assert attempt_key not in self.ends, "a line after finished"
        self.chunks.setdefault(attempt_key, []).append(event)
        self._changed.set()

    def progress(self, attempt_key: str, event: Progress) -> None:
        assert attempt_key not in self.ends
        self.said.setdefault(attempt_key, []).append(event)
        self._changed.set()

    def stopping(self, attempt_key: str, event: Stopping) -> None:
        assert attempt_key not in self.ends
        self.rungs.setdefault(attempt_key, []).append(event)
        self._changed.set()

    def finished(self, attempt_key: str, event: Finished) -> None:
        assert attempt_key not in self.ends
        self.ends[attempt_key] = Ended.of(event)
        self.finishes[attempt_key] = event
        self.ended_at[attempt_key] = time.monotonic()
        self._changed.set()

    def may_read(self, *, exclusive: bool) -> bool:
        return self.open

    async def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def end_of(self, key: str, seconds: float = PATIENCE) -> Ended:
        await self.until(lambda: key in self.ends, seconds)
        return self.ends[key]

    def lines(self, key: str) -> list[LogLine]:
        return [
            decode_line(line)
            for chunk in self.chunks.get(key, [])
            for line in split_lines(chunk.body, compressed=chunk.codec is LogCodec.JSONL_ZLIB)
        ]

    def text(self, key: str) -> str:
        return "\n".join(line.message for line in self.lines(key))


class Host:
    """A supervisor on a project, with what tests ask of it."""

    def __init__(
        self,
        root: Path,
        *,
        environ: dict[str, str] | None = None,
        connectors: ConnectorSet | None = None,
        secret_names: tuple[str, ...] = (),
        on_reaper: Callable[[ProcessIdentity], None] | None = None,
        spawn_only: bool = False,
        **settings: Any,
    ) -> None:
        self.root = root
        self.named: tuple[str, ...] = ()
        self.connectors = connectors or ConnectorSet(root=str(root), variables=frozenset(secret_names))
        self.sink = Sink()
        self.loads: list[LoadOutcome] = []
        self.spawn_only = spawn_only
        defaults: dict[str, Any] = {
            "cancel_grace_seconds": 0.3,
            "term_seconds": 0.3,
            "kill_seconds": 0.3,
            # By default as many as the machine has cores, and a spawned one is a fresh interpreter.
            "shared_workers": 1,
            "spare_exclusive": 0 if spawn_only else 1,
        }
        self.supervisor = Supervisor(
            settings=SupervisorSettings(**{**defaults, **settings}),
            project=self.project,
            sink=self.sink,
            environ=environ,
            on_load=self.loads.append,
            on_reaper=on_reaper,
        )
        self._number = 0

    def project(self) -> Project:
        plugins = str(self.root / "plugins")
        spec = ProjectSpec(
            host="test",
            root=str(self.root),
            sys_path=(plugins, str(UNFORKABLE)) if self.spawn_only else (plugins,),
            plugin_dirs=(plugins,),
            named_callables=self.named,
            preload=("holds_a_thread",) if self.spawn_only else (),
        )
        sources = ProjectSources.of(self.root, environ={})
        return Project(root=self.root, settings=HostSection(), spec=spec, connectors=self.connectors, sources=sources)

    def run(self, callable_: str, kwargs: dict[str, Any] | None = None, **order: Any) -> str:
        self._number += 1
        key = order.pop("attempt_key", f"run_{self._number}/step/1")
        values: dict[str, Any] = {
            "attempt_key": key,
            "run_id": f"run_{self._number}",
            "job_id": "job",
            "step": "step",
            "attempt": 1,
            "callable": callable_,
            "kwargs_json": json.dumps(kwargs or {}).encode(),
            "strict_keys": tuple(kwargs or {}),
        }
        inside = {name: order.pop(name) for name in AttemptOrder.__struct_fields__ if name in order}
        both = {name: inside[name] for name in ("timeout_ms",) if name in inside}
        letter = seal(AttemptOrder(**{**values, **inside}))
        self.supervisor.accept(
            DispatchOrder(attempt_key=key, epoch=1, callable=callable_, order=letter, **both, **order)
        )
        return key

    async def result(self, callable_: str, kwargs: dict[str, Any] | None = None, **order: Any) -> Ended:
        return await self.sink.end_of(self.run(callable_, kwargs, **order))

    async def end_what_runs(self) -> None:
        """Cancel every attempt that a test has left running, so politely that its worker lives on."""
        for key in self.sink.starts.keys() - self.sink.ends.keys():
            self.supervisor.cancel(CancelOrder(attempt_key=key, reason_code="canceled_by_user", by="ann", why="over"))
        await self.sink.until(lambda: len(self.supervisor.attempts) == 0)

    async def started_in(self, marker: Path) -> int:
        """Wait until hostile code runs and return the pid it runs in."""
        await eventually(lambda: marker.exists() and marker.read_text() != "")
        return int(marker.read_text())


@contextmanager
def descriptors_left(number: int) -> Iterator[None]:
    """Leave this process that many descriptors to open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 50, limits[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        for _ in range(number):
            os.close(taken.pop())
        yield
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


StartHost = Callable[..., Awaitable[Host]]
"""What the fixture ``start_host`` gives."""
