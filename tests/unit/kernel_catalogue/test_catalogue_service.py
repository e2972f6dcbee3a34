"""The catalogue of a running kernel over starts, on a real store."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "kernel_runs"))

from rig import ManualClock

from nomaflow_kernel.catalogue import stored_load as kept
from nomaflow_kernel.catalogue.registry import HostCatalogue
from nomaflow_kernel.catalogue.service import CatalogueService
from nomaflow_kernel.history.feed import EventFeed
from nomaflow_kernel.history.lookups import EventFilter, HostManifest
from nomaflow_kernel.store.sql_store import Store, open_store

JOBS: dict[str, Any] = {
    "meta": {"retention": {"days": 7}},
    "jobs": [
        {"id": "good", "schedule": "0 1 * * *", "steps": [{"callable": "team.code:work"}]},
        {"id": "warned", "params": {"unused": 1}, "steps": [{"callable": "team.code:none"}]},
        {"id": "bad", "shedule": "0 1 * * *", "steps": [{"callable": "team.code:work"}]},
    ],
}


def manifest(host: str = "team", **changes: Any) -> dict[str, Any]:
    """Return a manifest with three jobs."""
    callables = {
        name: {"kind": "async", "parameters": [], "catch_all": "kwargs" if name == "work" else "", "error": None}
        for name in ("work", "none")
    }
    return {
        "host": host,
        "callables": {f"team.code:{name}": each for name, each in callables.items()},
        "job_files": [{"path": "jobs.toml", "tree": JOBS, "error": None}],
        **changes,
    }


class Stage:
    """A store, and catalogues that are started on it one after the other."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.file = folder / "central.toml"
        self.clock = ManualClock()

    async def start(self, *, with_file: bool = False, stored: kept.StoredManifests | None = None) -> CatalogueService:
        """Do what a kernel's start does."""
        jobs_file = self.file if with_file else None
        catalogue = CatalogueService(
            store=self.store, clock=self.clock, feed=EventFeed(0), jobs_file=jobs_file, stored=stored
        )
        await catalogue.start()
        return catalogue


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """A new store."""
    store = open_store(f"sqlite:///{tmp_path / 'kernel.db'}")
    await store.open()
    yield Stage(store, tmp_path)
    await store.close()


def shown(catalogue: CatalogueService) -> list[tuple[str, str, list[str]]]:
    """Return (id, host, problem codes) of every job."""
    return [
        (entry.job_id, entry.loaded.host, [problem.code for problem in entry.loaded.problems])
        for entry in catalogue.jobs()
    ]


async def test_a_start_reads_what_was_checked_before(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs, problems, retention and definitions are those of the introduction, without checking anything again."""
    first = await stage.start()
    await first.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    monkeypatch.setattr(
        "nomaflow_kernel.catalogue.service.load_manifest", lambda manifest, before: pytest.fail("checked again")
    )
    second = await stage.start()
    assert shown(second) == shown(first)
    assert [problems for _, _, problems in shown(second)] == [["unknown_key"], [], ["unused_param"]]
    assert [entry.definition for entry in second.jobs()] == [entry.definition for entry in first.jobs()]
    [host] = second.hosts()
    assert host.load == first.hosts()[0].load
    assert "kept_load" not in host.manifest
    assert second.manifest("team") == host.manifest


async def test_what_was_read_ahead_is_not_read_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that has stood by reads at its start what has changed since, and nothing else."""
    first = await stage.start()
    for host in ("calm", "busy", "gone"):
        await first.introduce(host, digest="m1", manifest=manifest(host), explicit=False)
    stored = kept.StoredManifests(stage.store)
    stored.see(overdue=True)
    await stored.end()
    later = manifest("busy", job_files=[{"path": "jobs.toml", "tree": {"jobs": JOBS["jobs"][:2]}, "error": None}])
    await first.introduce("busy", digest="m2", manifest=later, explicit=False)
    await first.forget("gone")
    read, asked = kept._read, []

    def noted(item: HostManifest) -> tuple[HostCatalogue, bool]:
        asked.append(item.host)
        return read(item)

    monkeypatch.setattr(kept, "_read", noted)
    second = await stage.start(stored=stored)
    assert asked == ["busy"]
    assert shown(second) == shown(first)
    assert [(each.host, each.digest) for each in second.hosts()] == [("busy", "m2"), ("calm", "m1")]
    await stage.start(stored=stored)
    assert asked == ["busy", "busy", "calm"], "what was read ahead serves one start"


async def test_other_checks_than_those_of_the_introduction_check_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new version of the kernel trusts no other version's checks, and keeps its own."""
    first = await stage.start()
    await first.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    monkeypatch.setattr(kept, "_checks", lambda: "a later version")
    assert shown(await stage.start()) == shown(first)
    monkeypatch.setattr(
        "nomaflow_kernel.catalogue.service.load_manifest", lambda manifest, before: pytest.fail("not kept")
    )
    assert shown(await stage.start()) == shown(first)


async def test_a_reload_after_a_start_tells_only_what_changed(stage: Stage) -> None:
    """Jobs that were read from the store equal the same jobs freshly checked."""
    first = await stage.start()
    await first.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    second = await stage.start()
    before = len((await stage.store.events_after(0, limit=100)).events)
    await second.introduce("team", digest="m2", manifest=manifest(extra=1), explicit=False)
    events = (await stage.store.events_after(0, limit=100)).events[before:]
    assert [event.kind for event in events] == ["host.manifest"]


async def test_a_manifest_that_brings_fewer_jobs_says_which(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Its event and the log name them, whoever brought it: it may be another copy of the host."""
    caplog.set_level(logging.INFO)
    catalogue = await stage.start()
    await catalogue.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    files = [{**file, "tree": {"jobs": []}} for file in manifest()["job_files"]]
    await catalogue.introduce("team", digest="m2", manifest=manifest(job_files=files), explicit=False)
    [data] = [
        event.data
        for event in (await stage.store.events_after(0, limit=100)).events
        if event.data.get("digest") == "m2"
    ]
    assert data["removed_job_ids"] == ["good", "warned", "bad"]
    assert "the host 'team' no longer brings these jobs: good, warned, bad" in caplog.text


async def test_a_change_is_announced_with_the_jobs_that_changed(stage: Stage) -> None:
    """Listeners hear of a host's changed jobs and of no other: their work must not grow with the whole catalogue."""
    catalogue = await stage.start()
    heard: list[set[str]] = []
    catalogue.subscribe(lambda job_ids: heard.append(set(job_ids)))
    for host in ("one", "other"):
        body = tree_of(host, ["a", "b"])
        await catalogue.introduce(host, digest=f"{host}1", manifest=body, explicit=False)
    await catalogue.introduce("one", digest="one2", manifest=tree_of("one", ["c", "b"]), explicit=False)
    await catalogue.forget("other")
    assert heard == [{"one.a", "one.b"}, {"other.a", "other.b"}, {"one.a", "one.c"}, {"other.a", "other.b"}]


def tree_of(host: str, names: list[str]) -> dict[str, Any]:
    """Return a manifest with jobs of these names."""
    jobs = [{"id": f"{host}.{name}", "steps": [{"callable": "team.code:work"}]} for name in names]
    return manifest() | {"host": host, "job_files": [{"path": "jobs.toml", "tree": {"jobs": jobs}, "main": True}]}


async def test_the_bound_of_a_host_comes_with_its_manifest(stage: Stage) -> None:
    """A host's limit comes from its manifest; an absent or invalid one means no limit."""
    catalogue = await stage.start()
    for bound, expected in ((3, 3), (None, None), (0, None), (True, None), ("4", None)):
        body = manifest(max_parallel=bound)
        await catalogue.introduce("team", digest=f"m{bound}", manifest=body, explicit=True)
        assert catalogue.max_parallel("team") == expected
    assert catalogue.max_parallel("nobody") is None


def edited(**keys: Any) -> dict[str, Any]:
    """Return the manifest, with the job ``good`` edited."""
    tree = {**JOBS, "jobs": [{**JOBS["jobs"][0], **keys}, *JOBS["jobs"][1:]]}
    return manifest(job_files=[{"path": "jobs.toml", "tree": tree, "error": None}])


async def test_an_introduction_keeps_what_its_host_had(stage: Stage) -> None:
    """A misspelt key leaves the last good definition in place, over starts too; ``hosts forget`` ends it at once."""
    first = await stage.start()
    await first.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    _, disabled = await first.introduce("team", digest="m2", manifest=edited(timout_seconds=5), explicit=False)
    assert disabled == ("bad",)
    for catalogue in (first, await stage.start()):
        job = catalogue.job("good")
        assert job is not None
        assert (job.valid, job.removed, job.loaded.held) == (True, False, "")
        assert "unknown key 'timout_seconds'; correct the file, then `nomaflow reload team`" in job.why_kept
    assert list(await first.forget("team")) == ["bad", "good", "warned"]
    await first.introduce("team", digest="m3", manifest=edited(timout_seconds=6), explicit=False)
    job = first.job("good")
    assert job is not None
    assert not job.valid


async def test_stricter_checks_take_no_job_off_its_schedule(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that an older version accepted stays, marked, and is stored so; held jobs are reported over restarts."""
    first = await stage.start()
    await first.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    broken = {name: {**each, "error": "it fails"} for name, each in manifest()["callables"].items()}
    body = manifest(callables=broken, modules={"team.code": {"error": "SyntaxError: no"}})
    await first.introduce("team", digest="m2", manifest=body, explicit=False)
    monkeypatch.setattr(kept, "_checks", lambda: "a later version")
    for _ in range(2):
        job = (await stage.start()).job("good")
        assert job is not None
        assert job.valid
        assert job.loaded.held == "the module of 'team.code:work' cannot be imported: SyntaxError: no"


async def test_an_edit_taken_back_is_taken_in_again(stage: Stage) -> None:
    """A load newer than the catalogue counts even if its manifest was seen before; an older one does not."""
    catalogue = await stage.start()
    await catalogue.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    stage.clock.advance(60)
    await catalogue.introduce("team", digest="m2", manifest=edited(timout_seconds=5), explicit=False)
    now = stage.clock.now_us()
    assert await catalogue.knows_manifest("team", "m1", loaded_at_us=now - 1)
    assert not await catalogue.knows_manifest("team", "m1", loaded_at_us=now + 1)
    assert await catalogue.knows_manifest("team", "m2", loaded_at_us=now + 1)


CENTRAL = '[[jobs]]\nid = "{id}"\nhost = "team"\n[[jobs.steps]]\ncallable = "m:f"\n'


async def test_the_kernel_s_own_file_keeps_its_ids_over_a_restart(stage: Stage) -> None:
    """A host that brings the same id gets it by no start, even without the file, until the job is removed."""
    stage.file.write_text(CENTRAL.format(id="good"))
    first = await stage.start(with_file=True)
    await first.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    expected = [("good", "", []), ("good", "team", ["id_of_another_host"])]
    assert [each for each in shown(first) if each[0] == "good"] == expected
    again = await stage.start(with_file=True)
    assert [each for each in shown(again) if each[0] == "good"] == expected
    events = (await stage.store.events_after(0, limit=100, filter=EventFilter(kinds=("job",)))).events
    told = [(event.kind, event.host) for event in events if event.job_id == "good"]
    assert told == [("job.changed", ""), ("job.refused", "team")]
    without = await stage.start()
    assert [each for each in shown(without) if each[0] == "good"] == [("good", "", ["no_file_named"]), expected[1]]
    stage.file.write_text("jobs = []")
    await stage.start(with_file=True)
    without = await stage.start()
    assert [each for each in shown(without) if each[0] == "good"] == expected[1:]
    await without.introduce("team", digest="m1", manifest=manifest(), explicit=True)
    for catalogue in (without, await stage.start()):
        assert [each for each in shown(catalogue) if each[0] == "good"] == [("good", "team", [])]


async def test_a_claim_that_waits_gets_no_job_by_itself(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A freed id is nobody's, over starts and new checks too, until a host's jobs are introduced again on purpose."""
    first = await stage.start()
    await first.introduce("owner", digest="o1", manifest=manifest("owner"), explicit=False)
    await first.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    assert list(await first.forget("owner")) == ["bad", "good", "warned"]
    await first.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    second = await stage.start()
    monkeypatch.setattr(kept, "_checks", lambda: "a later version")
    third = await stage.start()
    for catalogue in (first, second, third, await stage.start()):
        assert [(entry.job_id, entry.foreign) for entry in catalogue.jobs()] == [
            ("bad", True), ("good", True), ("warned", True),
        ]  # fmt: skip
        assert catalogue.job("good") is None
        for entry in catalogue.jobs():
            assert "claim the id: nomaflow reload team" in str([problem.fix for problem in entry.loaded.problems])
    assert [each.owned_job_ids for each in await stage.store.manifests()] == [frozenset()]
    _, disabled = await third.introduce("team", digest="m1", manifest=manifest(), explicit=True)
    assert disabled == ("bad",)
    for catalogue in (third, await stage.start()):
        job = catalogue.job("good")
        assert job is not None
        assert (job.host, job.runnable) == ("team", True)


async def test_the_kernel_s_own_file_claims_a_freed_id_by_a_reload(stage: Stage) -> None:
    """A reload that is asked for gives the file the id for good; forgetting a host or a start does not."""
    first = await stage.start()
    await first.introduce("team", digest="m1", manifest=manifest(), explicit=False)
    stage.file.write_text(CENTRAL.format(id="good"))
    second = await stage.start(with_file=True)
    await second.forget("team")
    await second.reload_jobs_file()
    third = await stage.start(with_file=True)
    for catalogue in (second, third):
        assert catalogue.job("good") is None
        assert catalogue.jobs()[0].loaded.problems[-1].fix.endswith("claim the id: nomaflow reload")
    await third.reload_jobs_file(explicit=True)
    for catalogue in (third, await stage.start(with_file=True)):
        job = catalogue.job("good")
        assert job is not None
        assert job.valid


async def test_a_file_that_is_broken_at_the_start_leaves_the_last_good_jobs(stage: Stage) -> None:
    """The last good jobs are kept; the problem shows, and vanishes when the file is repaired."""
    stage.file.write_text(CENTRAL.format(id="a"))
    await stage.start(with_file=True)
    stage.file.write_text("[[jobs")
    catalogue = await stage.start(with_file=True)
    assert shown(catalogue) == [("a", "", ["bad_toml"])]
    job = catalogue.job("a")
    assert job is not None
    assert job.valid
    assert job.why_kept.startswith(f"job 'a' keeps its last good definition: {stage.file}:1: ")
    assert [problem.code for known in catalogue.hosts() for problem in known.load.problems] == ["bad_toml"]
    stage.file.write_text(CENTRAL.format(id="b"))
    await catalogue.reload_jobs_file()
    assert [(entry.job_id, entry.removed) for entry in catalogue.jobs()] == [("a", True), ("b", False)]
    assert not any(known.load.problems for known in catalogue.hosts())


async def test_a_file_that_is_not_named_any_more_leaves_its_jobs(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """They go on, marked, over starts and reloads, until a file is named again; one without jobs removes them."""
    stage.file.write_text(CENTRAL.format(id="a") + CENTRAL.format(id="b").replace("steps", "stepz", 1))
    await stage.start(with_file=True)
    digests = set()
    for _ in range(2):
        catalogue = await stage.start()
        caplog.clear()
        load = await catalogue.reload_jobs_file(explicit=True)
        assert load is not None
        assert [(job.job_id, job.kept) for job in load.jobs] == [("a", True), ("b", False)]
        job = catalogue.job("a")
        assert job is not None
        assert job.runnable
        assert job.why_kept == (
            f"job 'a' keeps its last good definition: {stage.file}: no jobs file is named any more, and this one had "
            "jobs; name it again in [kernel] jobs_file, or with --jobs, and restart the kernel; to remove its jobs, "
            "name a file with `jobs = []`"
        )
        assert [problem.code for known in catalogue.hosts() for problem in known.load.problems] == ["no_file_named"]
        assert [each.levelname for each in caplog.records] == ["ERROR", "WARNING"]  # a problem is told once, not by job
        digests.add(catalogue.hosts()[0].digest)
    assert len(digests) == 1
    again = await stage.start(with_file=True)
    assert [(entry.job_id, entry.loaded.kept, entry.valid) for entry in again.jobs()] == [
        ("a", False, True), ("b", False, False),
    ]  # fmt: skip
    await stage.start()
    stage.file = stage.file.with_name("other.toml")
    stage.file.write_text("jobs = []")
    assert all(entry.removed for entry in (await stage.start(with_file=True)).jobs())
    for _ in range(2):
        assert not (await stage.start()).hosts()
    assert await stage.store.manifests() == []


async def test_a_job_of_the_own_file_needs_a_host(stage: Stage) -> None:
    """A job of the kernel's own file must name the host of its steps; a job of calls only needs none."""
    call = '[[jobs]]\nid = "calls"\n[[jobs.steps]]\ntype = "call_job"\ntarget_job_id = "b"\n'
    stage.file.write_text(CENTRAL.format(id="a").replace('host = "team"\n', "") + CENTRAL.format(id="b") + call)
    catalogue = await stage.start(with_file=True)
    assert shown(catalogue) == [("a", "", ["missing_key"]), ("b", "", []), ("calls", "", [])]
    job = catalogue.job("a")
    assert job is not None
    assert "needs the key 'host'" in job.why_not_valid
