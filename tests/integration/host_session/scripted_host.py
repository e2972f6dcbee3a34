"""A host's session on a runner that does what a test says."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from nomaflow_api.v1.letter_words import FinishedState, LogCodec
from nomaflow_api.v1.letters import CancelOrder, CheckedStep, DispatchOrder, Finished, LogChunk, Started, ValueProblem
from nomaflow_api.v1.sealing import open_checked_steps, seal
from nomaflow_host.identity.files import IdentityFile
from nomaflow_host.outbox.event_storage import SpillStore
from nomaflow_host.outbox.outbox import Outbox
from nomaflow_host.session.addresses import AddressSource
from nomaflow_host.session.facts import HostIdentity, HostStatus
from nomaflow_host.session.reconnecting import HostSession
from nomaflow_host.supervisor.values import LoadOutcome, Refused
from waiting import PATIENCE

__all__ = ["Host", "Offered", "ScriptedRunner"]


@dataclass(eq=False, kw_only=True)
class Offered:
    """The part of a generation that a session uses."""

    digest: str
    body: bytes
    loaded_at_us: int
    explicit: bool = False


@dataclass
class ScriptedRunner:
    """A runner that records its orders; the test decides what happens to attempts."""

    accepted: list[DispatchOrder] = field(default_factory=list)
    cancelled: list[CancelOrder] = field(default_factory=list)
    killed: list[tuple[str, str]] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    drains: list[float] = field(default_factory=list)
    refusal: str = ""
    now: HostStatus = field(default_factory=lambda: HostStatus(isolation_mechanism="sampling"))
    offered: Offered | None = None
    serving: Offered | None = None
    next_reload: LoadOutcome | None = None
    checked: list[CheckedStep] = field(default_factory=list)
    next_check: list[ValueProblem] | None = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def accept(self, order: DispatchOrder) -> None:
        if self.refusal:
            raise Refused("host_full", self.refusal)
        self.accepted.append(order)
        self._tell()

    def cancel(self, order: CancelOrder) -> None:
        self.cancelled.append(order)
        self._tell()

    def kill(self, attempt_key: str, reason_code: str, reason: str) -> None:
        self.killed.append((attempt_key, reason_code))
        self.silences += map(float, re.findall(r"silent for ([\d.]+) s", reason))
        self._tell()

    @property
    def newest_load(self) -> LoadOutcome | None:
        return self.now.load

    async def look_at_disk(self) -> None:
        """Do nothing: it has no files."""

    def status(self) -> HostStatus:
        return self.now

    def serve(self, offered: Offered) -> None:
        """Begin to serve a manifest, as after the first load."""
        self.serving = offered
        self.now = replace(self.now, generation=1, manifest_digest=offered.digest)
        self._tell()

    async def another(self, than: Offered | None) -> Offered:
        async with self.changed:
            await self.changed.wait_for(lambda: self.serving is not None and self.serving is not than)
        assert self.serving is not None
        return self.serving

    async def reload(self, *, force: bool) -> LoadOutcome:
        assert self.next_reload is not None
        self.now = replace(self.now, load=self.next_reload)
        if self.next_reload.accepted and self.offered is not None:
            self.serve(dataclasses.replace(self.offered, explicit=True))
            self.now = replace(self.now, generation=self.next_reload.generation)
        return self.next_reload

    async def settled(self, seconds: float) -> bool:
        return True

    async def check(self, steps: bytes, seconds: float) -> bytes | None:
        self.checked.extend(open_checked_steps(steps))
        return None if self.next_check is None else seal(self.next_check)

    async def drain(self, deadline_s: float) -> None:
        self.drains.append(deadline_s)
        self._tell()

    async def until(self, predicate: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait until the runner has been told something."""
        async with asyncio.timeout(seconds), self.changed:
            await self.changed.wait_for(predicate)

    def _tell(self) -> None:
        async def notify() -> None:
            async with self.changed:
                self.changed.notify_all()

        self._notice = asyncio.ensure_future(notify())


class Host:
    """One host under test: session, outbox and scripted runner."""

    def __init__(self, *, tmp_path: Path, given: str, identity_file: IdentityFile | None, **caps: int) -> None:
        self.runner = ScriptedRunner()
        self.outbox = Outbox(store=SpillStore(directory=tmp_path / "spill", **caps))
        self.session = HostSession(
            identity=HostIdentity(
                host="demo",
                incarnation="incarnation-1",
                machine="here",
                pid=1,
                version="0.1.0",
                max_async=10,
                max_sync=2,
                ended_incarnations=("before-1",),
            ),
            addresses=AddressSource(
                given=given, joined=identity_file.read().addresses if identity_file else (), file=tmp_path / "address"
            ),
            identity_file=identity_file or IdentityFile(tmp_path / "identity.json"),
            runner=self.runner,
            outbox=self.outbox,
        )
        self.task = asyncio.create_task(self.session.run())

    def start_attempt(self, key: str) -> None:
        self.outbox.started(key, Started(at_us=1, worker_pid=42, generation=1, exclusive=False))

    def log(self, key: str, body: bytes, lines: int = 1) -> None:
        self.outbox.log(
            key, LogChunk(line_count=lines, first_at_us=1, last_at_us=1, levels=4, codec=LogCodec.JSONL, body=body)
        )

    def finish(self, key: str) -> None:
        self.outbox.finished(key, Finished(at_us=2, state=FinishedState.SUCCEEDED))

    async def close(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.outbox.close()
