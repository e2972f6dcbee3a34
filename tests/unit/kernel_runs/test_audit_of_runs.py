"""The audit row of a call that starts or stops runs: stored with the change, in the same commit."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from rig import Rig, command, job

from nomaflow_api.v1 import kernel_service_pb2 as kernel
from nomaflow_kernel.access.audit import AuditLog
from nomaflow_kernel.access.policy import RULES
from nomaflow_kernel.access.principals import Caller, Principal, PrincipalKind
from nomaflow_kernel.domain.errors import UnknownJob
from nomaflow_kernel.history.access_records import AuditFilter, AuditRecord
from nomaflow_kernel.history.records import PauseRecord
from nomaflow_kernel.store.errors import StoreUnavailable
from nomaflow_project.jobs.definitions import Overlap

ANNA = Caller(principal=Principal(kind=PrincipalKind.USER, name="anna"), peer="ipv4:10.0.0.7:51234")


class Calls:
    """Calls of anna, as the shell in front of the engine makes them."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.log = AuditLog(store=rig.store, clock=rig.clock)

    async def make(self, action: str, request: Any, work: Any, response: Any = None) -> Any:
        """Do the work of a call within it, and write its row if that is still due."""

        async def call() -> Any:
            method = f"/nomaflow_api.v1.KernelService/{action}"
            audited = self.log.begin(method, RULES[method], request, ANNA)
            answer = await work()
            assert audited is not None
            await self.log.done(audited, response or kernel.TriggerRunResponse(), ANNA)
            return answer

        return await asyncio.create_task(call())

    async def trigger(self, job_id: str, **command: Any) -> Any:
        """Trigger one run."""
        request = kernel.TriggerRunRequest(job_id=job_id, by="bob")
        return await self.make("TriggerRun", request, lambda: self.rig.trigger(job_id, **command))

    async def rows(self) -> Sequence[AuditRecord]:
        """Return the audit."""
        return await self.rig.store.audit_rows(0, filter=AuditFilter(), limit=1000)


async def commits(rig: Rig) -> int:
    """Return the number of the store's transactions so far."""
    with closing(sqlite3.connect(rig.path)) as raw:
        found: int = raw.execute("SELECT commits FROM kernel").fetchone()[0]
        return found


async def test_a_trigger_and_its_row_are_one_commit(rig: Rig) -> None:
    """The row names who, from where, what and which run, and costs no commit of its own."""
    rig.jobs.add(job("a"))
    calls = Calls(rig)
    before = await commits(rig)
    outcome = await calls.trigger("a")
    assert await commits(rig) == before + 1
    (row,) = await calls.rows()
    assert (row.principal, row.address, row.action, row.target) == ("anna", "ipv4:10.0.0.7", "TriggerRun", "job:a")
    assert (row.outcome, row.note, row.correlation) == ("ok", "for bob", outcome.run_id)


async def test_many_triggers_are_one_row(rig: Rig) -> None:
    """A batch is one row with its jobs, how many of its runs were started, and the first and last of them."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW), job("b", overlap=Overlap.ALLOW))
    calls = Calls(rig)
    ids = ["a", "b", "a", "missing"]
    request = kernel.TriggerRunsRequest(requests=[kernel.TriggerRunRequest(job_id=each) for each in ids])
    work = rig.engine.trigger_many
    outcomes = await calls.make(
        "TriggerRuns", request, lambda: work([command(each) for each in ids]), kernel.TriggerRunsResponse()
    )
    (row,) = await calls.rows()
    assert isinstance(outcomes[3], UnknownJob)
    assert row.target == "job:a, job:b, job:missing"
    assert row.note == "3 of 4 started"
    assert row.correlation == f"{outcomes[0].run_id} to {outcomes[2].run_id}"


async def test_a_repeat_writes_no_second_row(rig: Rig) -> None:
    """A repeated request changes nothing; after a restart its row names the run of the first."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW))
    calls = Calls(rig)
    first = await calls.trigger("a", request_id="k", request_hash="h")
    again = await calls.trigger("a", request_id="k", request_hash="h")
    assert (again.run_id, again.deduplicated) == (first.run_id, True)
    assert [row.correlation for row in await calls.rows()] == [first.run_id]
    await rig.restart()
    calls = Calls(rig)
    await calls.trigger("a", request_id="k", request_hash="h")
    assert {row.correlation for row in await calls.rows()} == {first.run_id}


async def test_a_failed_commit_leaves_no_row(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trigger that could not be stored is not in the audit as one that was made; the next one is."""
    rig.jobs.add(job("a", overlap=Overlap.ALLOW))
    calls = Calls(rig)
    real: Any = rig.store.apply

    async def failing(*_args: Any, **_kwargs: Any) -> Any:
        monkeypatch.setattr(rig.store, "apply", real)
        raise StoreUnavailable("gone")

    monkeypatch.setattr(rig.store, "apply", failing)
    with pytest.raises(StoreUnavailable):
        await calls.trigger("a")
    await calls.trigger("a")
    assert len(await calls.rows()) == 1
    assert (await rig.store.verify_audit()).bad_seq == 0


async def test_cancels_and_pauses_have_their_row(rig: Rig) -> None:
    """Every cancel, pause and resume is in the audit with the reason that was given."""
    rig.jobs.add(job("a"))
    calls = Calls(rig)
    run_id = (await calls.trigger("a")).run_id
    cancel = kernel.CancelRunRequest(run_id=run_id, why="too late")
    await calls.make("CancelRun", cancel, lambda: rig.engine.cancel(run_id, by="anna", why="too late"))
    pause = PauseRecord(scope="host", name="demo", by="anna", why="", since_us=1, until_us=None)
    await calls.make("Pause", kernel.PauseRequest(host="demo"), lambda: rig.engine.set_pause(pause))
    await calls.make("Resume", kernel.ResumeRequest(host="demo"), lambda: rig.engine.clear_pause("host", "demo"))
    everything = PauseRecord(scope="all", name="", by="anna", why="", since_us=1, until_us=None)
    await calls.make("Pause", kernel.PauseRequest(why="fire"), lambda: rig.engine.set_pause(everything))
    await calls.make("Resume", kernel.ResumeRequest(), lambda: rig.engine.clear_pause("all", ""))
    await calls.make("Resume", kernel.ResumeRequest(), lambda: rig.engine.clear_pause("all", ""))
    told = [(row.action, row.target, row.note) for row in (await calls.rows())[1:]]
    assert told == [
        ("CancelRun", run_id, "too late"),
        ("Pause", "host:demo", ""),
        ("Resume", "host:demo", ""),
        ("Pause", "*", "fire"),
        ("Resume", "*", ""),
        ("Resume", "*", ""),
    ]


async def test_runs_that_nobody_called_for_have_no_row(rig: Rig) -> None:
    """A fire of a schedule is in history; the audit is for callers."""
    rig.jobs.add(job("a"))
    await rig.trigger("a")
    assert await Calls(rig).rows() == []
