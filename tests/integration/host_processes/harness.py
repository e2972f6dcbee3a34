"""A supervisor with real processes, and a sink that remembers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nomaflow_api.v1.log_lines import LogLine, decode_lines
from nomaflow_host.attempt.messages import AttemptOrder, Finished, LogChunk, Progress, Started
from nomaflow_host.connectors import ResolvedConnectors
from nomaflow_host.generation import ProjectSpec
from nomaflow_host.reaper.proc import ProcessIdentity
from nomaflow_host.supervisor import ProjectLoad, Supervisor, SupervisorSettings
from processes import is_alive, pids_below, process_name

__all__ = [
    "HOSTILE", "Host", "Sink", "StartHost", "is_alive", "pids_below", "process_name", "wait_until",
]  # fmt: skip

HOSTILE = Path(__file__).parent / "hostile"


class Sink:
    """An AttemptSink that remembers everything, and checks the order of things."""

    def __init__(self) -> None:
        self.starts: dict[str, Started] = {}
        self.chunks: dict[str, list[LogChunk]] = {}
        self.said: dict[str, list[Progress]] = {}
        self.ends: dict[str, Finished] = {}
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

    def finished(self, attempt_key: str, event: Finished) -> None:
        assert attempt_key not in self.ends
        self.ends[attempt_key] = event
        self.ended_at[attempt_key] = time.monotonic()
        self._changed.set()

    def may_read(self, *, exclusive: bool) -> bool:
        return self.open

    async def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def end_of(self, key: str, seconds: float = 20) -> Finished:
        await self.until(lambda: key in self.ends, seconds)
        return self.ends[key]

    def lines(self, key: str) -> list[LogLine]:
        chunks = self.chunks.get(key, [])
        return [line for chunk in chunks for line in decode_lines(chunk.body, compressed=chunk.compressed)]

    def text(self, key: str) -> str:
        return "\n".join(line.message for line in self.lines(key))


class Host:
    """A supervisor on a project, with what tests ask of it."""

    def __init__(
        self,
        root: Path,
        *,
        environ: dict[str, str] | None = None,
        connectors: ResolvedConnectors | None = None,
        secret_names: tuple[str, ...] = (),
        on_reaper: Callable[[ProcessIdentity], None] | None = None,
        **settings: Any,
    ) -> None:
        self.root = root
        self.named: tuple[str, ...] = ()
        self.connectors = connectors or ResolvedConnectors(root=str(root), secret_env_names=secret_names)
        self.sink = Sink()
        defaults: dict[str, Any] = {"cancel_grace_seconds": 0.3, "term_seconds": 0.3, "kill_seconds": 0.3}
        spawn_only = bool(os.environ.get("NOMAFLOW_TEST_SPAWN"))
        self.supervisor = Supervisor(
            settings=SupervisorSettings(**{**defaults, "spawn_only": spawn_only, **settings}),
            project=self.project,
            sink=self.sink,
            environ=environ,
            on_reaper=on_reaper,
        )
        self._number = 0

    def project(self) -> ProjectLoad:
        plugins = str(self.root / "plugins")
        spec = ProjectSpec(
            host="test", root=str(self.root), sys_path=(plugins,), plugin_dirs=(plugins,), named_callables=self.named
        )
        return ProjectLoad(spec=spec, connectors=self.connectors)

    def run(self, callable_: str, kwargs: dict[str, Any] | None = None, **order: Any) -> str:
        self._number += 1
        key = f"run_{self._number}/step/1"
        values: dict[str, Any] = {
            "attempt_key": key,
            "epoch": 1,
            "run_id": f"run_{self._number}",
            "job_id": "job",
            "step": "step",
            "attempt": 1,
            "callable": callable_,
            "kwargs_json": json.dumps(kwargs or {}),
            "strict_keys": tuple(kwargs or {}),
        }
        self.supervisor.accept(AttemptOrder(**{**values, **order}))
        return key

    async def result(self, callable_: str, kwargs: dict[str, Any] | None = None, **order: Any) -> Finished:
        return await self.sink.end_of(self.run(callable_, kwargs, **order))

    async def started_in(self, marker: Path) -> int:
        """Wait until hostile code runs and return the pid it runs in."""
        await wait_until(lambda: marker.exists() and marker.read_text() != "")
        return int(marker.read_text())


StartHost = Callable[..., Awaitable[Host]]
"""What the fixture ``start_host`` gives."""


async def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # what other processes do sets no event here
            await asyncio.sleep(0.005)
