"""A real kernel and real hosts on short clocks, a proxy between them, and steps that keep a ledger of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tcp_proxy import TcpProxy
from team_system import HOSTILE, Ledger, TeamSystem

from nomaflow.client.values import EventView, RunView
from real_system import CLOCKS, eventually

__all__ = ["FaultSystem", "Work", "open_faults"]

STEPS = '''"""Steps that count aloud until they are let go."""

import asyncio
import logging
import os
import time

from faulty.ledgers import note

_log = logging.getLogger(__name__)


async def ticks(*, ledger, until, ctx, **_):
    """Count in the log, and end when a file is there."""
    note(ledger, "start", key=ctx.attempt_key)
    count = 0
    while not os.path.exists(until):
        count += 1
        _log.info("tick %d", count)
        note(ledger, "tick")
        await asyncio.sleep(0.02)
    note(ledger, "end", key=ctx.attempt_key, count=count)
    return count


def sync_ticks(*, ledger, until, ctx, **_):
    """Do the same in a worker of its own."""
    note(ledger, "start", key=ctx.attempt_key)
    count = 0
    while not os.path.exists(until) and not ctx.is_cancelled():
        count += 1
        _log.info("tick %d", count)
        note(ledger, "tick")
        time.sleep(0.02)
    note(ledger, "end", key=ctx.attempt_key, count=count)
    return count


async def shout(*, ledger, lines, width, ctx, **_):
    """Log so many lines as fast as may be, in a shared worker."""
    _shout(ledger, lines, width, ctx)
    return lines


def sync_shout(*, ledger, lines, width, ctx, **_):
    """Log so many lines as fast as may be."""
    _shout(ledger, lines, width, ctx)
    return lines


def _shout(ledger, lines, width, ctx):
    note(ledger, "start", key=ctx.attempt_key)
    for number in range(1, lines + 1):
        _log.info("tick %d %s", number, os.urandom(width // 2).hex())
        if number % 100 == 0:
            note(ledger, "hundred", count=number)
    note(ledger, "end", key=ctx.attempt_key, count=lines)
'''

_JOB = """
[[jobs]]
id = "{id}"
overlap = "allow"
cancel_grace_seconds = 1
{more}
steps = [{{ callable = "faulty.steps:{function}" }}]
"""


def _jobs(prefix: str) -> str:
    lost_soon = "lost_after_seconds = 1"
    given = [
        ("ticks", "ticks", ""),
        ("sync_ticks", "sync_ticks", ""),
        ("shout", "shout", ""),
        ("sync_shout", "sync_shout", ""),
        ("given_up_soon", "sync_ticks", lost_soon),
        ("may_run_again", "sync_ticks", f"{lost_soon}\nretry_on_lost = true"),
        ("tried_twice", "ticks", 'retry = { attempts = 2, backoff = "fixed", base_seconds = 0.1 }'),
    ]
    return "".join(_JOB.format(id=prefix + name, function=function, more=more) for name, function, more in given)


@dataclass(frozen=True, kw_only=True)
class Work:
    """One run of a counting job, and what it says about itself."""

    system: FaultSystem
    run_id: str
    ledger: Ledger
    until: Path

    def under_way(self) -> Work:
        """Wait until its code runs and the kernel has heard of it."""
        self.ledger.wait_for("tick", 3)
        eventually(lambda: self.run().steps[0].last.state == "RUNNING")
        return self

    def goes_on(self) -> None:
        """Wait until its code has shown life once more."""
        self.ledger.wait_for("tick", len(self.ledger.entries("tick")) + 5)

    def run(self) -> RunView:
        """Return the current run."""
        return self.system.run(self.run_id)

    def let_go(self) -> RunView:
        """Let the code end and wait for the end of the run."""
        self.until.touch()
        return self.system.end(self.run_id)

    def succeeds_whole(self) -> RunView:
        """Let the code end, and check that it ran once and that its log has every line once, in order."""
        run = self.let_go()
        assert run.state == "SUCCEEDED", run
        # What a host refuses, as it does while it replaces its reaper, has started nothing and is sent again.
        attempts = [
            one for step in run.steps for one in step.attempts if not (one.reason and one.reason.code == "host_refused")
        ]
        assert [one.state for one in attempts] == ["SUCCEEDED"]
        self.is_whole()
        return run

    def is_whole(self) -> None:
        """Check that it ran once and that every line of it is in its log, once and in order."""
        assert len(self.ledger.entries("start")) == 1
        (end,) = self.ledger.entries("end")
        lines = list(self.system.api.read_logs(self.run_id))
        assert [line.seq for line in lines] == list(range(1, len(lines) + 1))
        counted = [line.message.split()[:2] for line in lines if line.message.startswith("tick")]
        assert counted == [["tick", str(number)] for number in range(1, end["count"] + 1)]


@dataclass(kw_only=True)
class FaultSystem(TeamSystem):
    """A kernel, hosts that may reach it by a proxy, and a client that reaches it always."""

    kernel_flags: Sequence[str] = CLOCKS
    proxies: list[TcpProxy] = field(default_factory=list)

    def proxy(self) -> TcpProxy:
        """Start a proxy in front of the kernel."""
        listen = f"unix:{self.root}/proxy-{len(self.proxies)}"
        started = TcpProxy(lambda: self.kernel_address, listen=listen).__enter__()
        self.proxies.append(started)
        return started

    def counting_project(self, name: str, *, more_steps: str = "", more_jobs: str = "", prefix: str = "") -> None:
        """Make a project of counting steps; the ids of its jobs begin with *prefix*."""
        files = {
            "plugins/faulty/__init__.py": "",
            "plugins/faulty/steps.py": STEPS + more_steps,
            "plugins/faulty/ledgers.py": (HOSTILE / "plugins" / "stopping" / "ledgers.py").read_text(),
            "jobs.toml": _jobs(prefix) + more_jobs,
        }
        self.project(name, files)

    def work(self, job: str, **params: object) -> Work:
        """Trigger a counting job."""
        ledger = self.ledger()
        until = self.root / f"{ledger.file.name}.end"
        run_id = self.start(job, ledger, "", until=str(until), **params)
        return Work(system=self, run_id=run_id, ledger=ledger, until=until)

    def state_of(self, host: str) -> str:
        """Return the best state of a host's instances, empty if the kernel knows none."""
        view = self.host_view(host)
        return view.state if view else ""

    def until_state(self, host: str, *states: str) -> None:
        """Wait until a host is in one of the states."""
        eventually(lambda: self.state_of(host) in states)

    def last_event(self) -> int:
        """Return the number of the newest event."""
        return self.api.get_kernel().last_event_seq

    def events(self, after: int, until: Callable[[EventView], bool]) -> list[EventView]:
        """Return the events after a number, the first for which *until* is true being the last."""
        found: list[EventView] = []
        for event in self.api.watch_events(after_seq=after):
            found.append(event)
            if until(event):
                break
        return found

    def close(self) -> None:
        """Stop everything; nothing may be left."""
        try:
            super().close()
        finally:
            for proxy in self.proxies:
                proxy.__exit__(None, None, None)


@contextmanager
def open_faults(root: Path, *kernel_flags: str, forks_templates: bool = True) -> Iterator[FaultSystem]:
    """Start a kernel in an empty folder and give its system; stop all that is started in it.

    :param kernel_flags: in place of the short clocks
    :param forks_templates: see :class:`real_system.System`
    """
    system = FaultSystem(root=root, kernel_flags=kernel_flags or CLOCKS, forks_templates=forks_templates)
    try:
        system.start_kernel()
        system.client()
        yield system
    finally:
        system.close()
