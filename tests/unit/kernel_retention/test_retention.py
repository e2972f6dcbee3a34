"""Removals by retention, on a real store."""

from __future__ import annotations

import asyncio
import dataclasses
import sqlite3
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Engine, event

sys.path.insert(0, str(Path(__file__).parent.parent / "kernel_runs"))

from rig import Rig, job, step

from nomaflow_kernel.catalogue.registry import Catalogue, HostCatalogue
from nomaflow_kernel.history.access_records import AuditRecord
from nomaflow_kernel.history.lookups import RunFilter
from nomaflow_kernel.history.transitions import Notice
from nomaflow_kernel.upkeep.retention import RetentionSweeper
from nomaflow_project.jobs.definitions import RetentionPolicy
from nomaflow_project.jobs.load import load_job_files
from nomaflow_project.jobs.loaded import CatalogueLoad
from nomaflow_project.reading.files import parse_toml_file


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """An engine whose jobs finish at once, since their only step is off."""
    built = Rig(tmp_path / "kernel.db")
    await built.open()
    for name in ("a", "b"):
        built.jobs.add(job(name, step("off", enabled=False), overlap="allow"))
    yield built
    await built.close()


def load(tmp_path: Path, meta: str, *, host: str = "demo", jobs: Sequence[str] = ("a", "b")) -> CatalogueLoad:
    """Return what a jobs.toml with some jobs brings."""
    path = tmp_path / "jobs.toml"
    tables = (f'[[jobs]]\nid = "{name}"\nsteps = [{{type = "python", callable = "m:f"}}]' for name in jobs)
    path.write_text("\n".join((meta, *tables)), encoding="utf-8")
    return load_job_files([parse_toml_file(path, environ={})], host=host)


def brought(**loads: CatalogueLoad) -> Catalogue:
    """Return a catalogue of some hosts, in the order in which they came."""
    catalogue = Catalogue()
    for host, of_host in loads.items():
        catalogue.take_in(HostCatalogue(host=host, load=of_host))
    return catalogue


async def counts(rig: Rig) -> dict[str, int]:
    """Return how many runs each job has."""
    found: dict[str, int] = {}
    for run in (await rig.store.list_runs(RunFilter(), before="", limit=500)).runs:
        found[run.job_id] = found.get(run.job_id, 0) + 1
    return found


async def test_the_count_spares_what_proves_that_a_request_was_met(rig: Rig, tmp_path: Path) -> None:
    """A repeated request gets its run for a day, even beyond the count."""
    for number in range(4):
        await rig.trigger("a", request_id=f"k{number}", request_hash="h")
        await rig.trigger("b")
    await rig.settle()
    policy = RetentionPolicy(days=None, keep_last_per_job=1)
    sweeper = RetentionSweeper(
        store=rig.store, clock=rig.clock, catalogue=brought(demo=load(tmp_path, "")), default=policy
    )
    assert await sweeper.sweep() == 3
    assert await counts(rig) == {"a": 4, "b": 1}
    await rig.advance(86_400 + 1)
    assert await sweeper.sweep() == 3
    assert await counts(rig) == {"a": 1, "b": 1}


async def test_age_and_count_let_runs_go(rig: Rig, tmp_path: Path) -> None:
    """A run goes when it is older than the days, or beyond the newest ones kept of its job; active runs stay."""
    for _ in range(3):
        await rig.trigger("a")
    await rig.settle()
    await rig.advance(3 * 86_400)
    for name in ("a", "a", "b"):
        await rig.trigger(name)
    await rig.settle()
    policy = RetentionPolicy(days=2, keep_last_per_job=None)
    sweeper = RetentionSweeper(
        store=rig.store, clock=rig.clock, catalogue=brought(demo=load(tmp_path, "")), default=policy
    )
    assert await sweeper.sweep() == 3
    assert await counts(rig) == {"a": 2, "b": 1}
    policy = RetentionPolicy(days=None, keep_last_per_job=1)
    sweeper = RetentionSweeper(
        store=rig.store, clock=rig.clock, catalogue=brought(demo=load(tmp_path, "")), default=policy
    )
    assert await sweeper.sweep() == 1
    assert await counts(rig) == {"a": 1, "b": 1}


async def test_each_job_is_looked_at_once_however_many_runs_go(rig: Rig, tmp_path: Path) -> None:
    """Ten thousand jobs with a run too many each would otherwise be looked through a hundred times in every sweep."""
    for name in ("a", "b") * 102:
        await rig.trigger(name)
    await rig.settle()
    looked: list[object] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Sequence[object], *_rest: object) -> None:
        if "(runs.job_id, runs.run_id) >=" in statement and "DESC" in statement:
            looked.append(parameters[0])

    policy = RetentionPolicy(days=None, keep_last_per_job=1)
    sweeper = RetentionSweeper(
        store=rig.store, clock=rig.clock, catalogue=brought(demo=load(tmp_path, "")), default=policy
    )
    event.listen(Engine, "before_cursor_execute", note)
    try:
        assert await sweeper.sweep() == 202
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert looked == ["a", "b"]


async def test_a_file_s_own_policy_wins_and_may_be_off(rig: Rig, tmp_path: Path) -> None:
    """[meta.retention] is for the jobs of its file; switched off it keeps everything."""
    for _ in range(3):
        await rig.trigger("a")
    await rig.settle()
    eager = RetentionPolicy(days=None, keep_last_per_job=1)
    kept = load(tmp_path, "[meta.retention]\nenabled = false")
    sweeper = RetentionSweeper(store=rig.store, clock=rig.clock, catalogue=brought(demo=kept), default=eager)
    assert await sweeper.sweep() == 0
    two = load(tmp_path, "[meta.retention]\nkeep_last_per_job = 2")
    sweeper = RetentionSweeper(store=rig.store, clock=rig.clock, catalogue=brought(demo=two), default=eager)
    assert await sweeper.sweep() == 1
    assert await counts(rig) == {"a": 2}


async def test_a_policy_is_for_the_jobs_that_its_host_brings(rig: Rig, tmp_path: Path) -> None:
    """Neither the jobs of others, if the file has none, nor an id that is another host's: else it erases their runs."""
    for _ in range(3):
        await rig.trigger("a")
    await rig.settle()
    keeper, eager = RetentionPolicy(enabled=False), "[meta.retention]\nkeep_last_per_job = 1"
    of_demo = load(tmp_path, "")
    for jobs in ((), ("a", "c")):
        hosts = brought(demo=of_demo, other=load(tmp_path, eager, host="other", jobs=jobs))
        sweeper = RetentionSweeper(store=rig.store, clock=rig.clock, catalogue=hosts, default=keeper)
        assert await sweeper.sweep() == 0
    assert await counts(rig) == {"a": 3}


async def test_a_policy_is_not_for_the_runs_that_another_host_had_under_the_id(rig: Rig, tmp_path: Path) -> None:
    """Whoever takes the id of a host that was forgotten may not read its runs, and does not erase them either."""
    for _ in range(3):
        await rig.trigger("a")
    await rig.settle()
    rig.jobs.add(job("a", step("off", enabled=False), overlap="allow", host="other"))
    for _ in range(3):
        await rig.trigger("a")
    await rig.settle()
    taken = brought(other=load(tmp_path, "[meta.retention]\nkeep_last_per_job = 1", host="other", jobs=("a",)))
    keeper = RetentionPolicy(enabled=False)
    sweeper = RetentionSweeper(store=rig.store, clock=rig.clock, catalogue=taken, default=keeper)
    assert await sweeper.sweep() == 2
    left = (await rig.store.list_runs(RunFilter(), before="", limit=500)).runs
    assert [run.host for run in left] == ["other", *["demo"] * 3]
    eager = RetentionPolicy(days=None, keep_last_per_job=2)
    sweeper = RetentionSweeper(store=rig.store, clock=rig.clock, catalogue=taken, default=eager)
    assert await sweeper.sweep() == 1


@pytest.mark.parametrize("meta", ["", "[meta.retention]\ndays = 30"])
async def test_all_old_events_of_no_run_go_in_one_sweep(rig: Rig, tmp_path: Path, meta: str) -> None:
    """A deployment of ten thousand jobs writes as many; whether a host has its own policy does not matter."""
    now = rig.clock.now_us()
    await rig.store.apply([Notice(kind="job.changed", job_id=f"j{n}") for n in range(450)], at_us=now)
    await rig.advance(3 * 86_400)
    sweeper = RetentionSweeper(
        store=rig.store,
        clock=rig.clock,
        catalogue=brought(demo=load(tmp_path, meta)),
        default=RetentionPolicy(days=2, keep_last_per_job=None),
    )
    await sweeper.sweep()
    assert not [event for event in await rig.events() if event.kind == "job.changed"]


async def test_what_nobody_brings_any_more_goes_too(rig: Rig, tmp_path: Path) -> None:
    """Jobs that are gone and events of no run follow the default beside a file with its own policy."""
    await rig.trigger("a")
    rig.jobs.add(job("gone", step("off", enabled=False)))
    await rig.trigger("gone")
    await rig.host()
    await rig.settle()
    await rig.advance(3 * 86_400)
    own = load(tmp_path, "[meta.retention]\ndays = 30")
    sweeper = RetentionSweeper(
        store=rig.store,
        clock=rig.clock,
        catalogue=brought(demo=own),
        default=RetentionPolicy(days=2, keep_last_per_job=None),
    )
    assert await sweeper.sweep() == 1
    assert await counts(rig) == {"a": 1}
    assert not [event for event in await rig.events() if event.kind == "host.attached"]


async def test_the_audit_has_a_retention_of_its_own(rig: Rig, tmp_path: Path) -> None:
    """Rows go by their own age, whatever becomes of runs; what is kept verifies. Without an age nothing goes."""
    row = AuditRecord(at_us=0, principal="ann", address="unix:", action="Pause", target="*", outcome="ok")
    day_us = 86_400_000_000
    now = rig.clock.now_us()
    await rig.store.append_audit([replace(row, at_us=now - age * day_us) for age in range(2999, -1, -1)])
    never = RetentionPolicy(enabled=False)
    hosts = brought(demo=load(tmp_path, ""))
    keeper = RetentionSweeper(store=rig.store, clock=rig.clock, catalogue=hosts, default=never)
    await keeper.sweep_audit()
    assert (await rig.store.verify_audit()).rows == 3000
    sweeper = RetentionSweeper(store=rig.store, clock=rig.clock, catalogue=hosts, default=never, audit_days=400)
    await sweeper.sweep_audit()
    verdict = await rig.store.verify_audit()
    assert (verdict.rows, verdict.first_seq, verdict.bad_seq) == (401, 2600, 0)


async def test_a_host_does_not_set_the_pace_of_the_kernel(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep looks at the jobs of all hosts, so how often there is one is the kernel's own policy alone."""
    swept: list[int] = []
    of_host = dataclasses.replace(load(tmp_path, ""), retention=RetentionPolicy(sweep_interval_minutes=0))
    sweeper = RetentionSweeper(
        store=rig.store, clock=rig.clock, catalogue=brought(demo=of_host), default=RetentionPolicy()
    )

    async def sweep() -> int:
        swept.append(1)
        return 0

    monkeypatch.setattr(sweeper, "sweep", sweep)
    await sweeper.start()
    for _ in range(9):
        await asyncio.sleep(0)
    await sweeper.stop()
    assert swept == []


async def test_a_stop_does_not_wait_for_a_store_that_hangs(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parts that stop after it would be left no time. The page is deleted or not, as when the kernel is killed."""
    prune, asked = rig.store.prune, asyncio.Event()

    async def noted(**fields: Any) -> int:
        pruning = asyncio.ensure_future(prune(**fields))
        asked.set()
        return await pruning

    monkeypatch.setattr(rig.store, "prune", noted)
    often = RetentionPolicy(days=1, sweep_interval_minutes=0)
    sweeper = RetentionSweeper(
        store=rig.store, clock=rig.clock, catalogue=brought(demo=load(tmp_path, "")), default=often
    )
    with closing(sqlite3.connect(tmp_path / "kernel.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        await sweeper.start()
        await asked.wait()
        async with asyncio.timeout(2):
            await sweeper.stop()
