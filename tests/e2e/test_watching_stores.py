"""Cursors on real kernels: of another store, of a restored one, of events that are gone; and the events of a start."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from project_system import ProjectSystem, open_system

from nomaflow.client import ClientError
from nomaflow.client.values import EventView, PrunedView
from nomaflow_kernel.store.sql_store import open_store
from real_system import eventually

pytestmark = pytest.mark.e2e

JOBS = """
[[jobs]]
id = "fine"
overlap = "allow"
steps = [{ name = "one", callable = "team.code:count" }, { name = "two", callable = "team.code:count" }]

[[jobs]]
id = "ticking"
steps = [{ callable = "team.code:count" }]
presets = [{ name = "each-second", schedule = "* * * * * *", enabled = false }]

[[jobs]]
id = "failing"
retry = { attempts = 2, base_seconds = 0 }
steps = [{ name = "one", callable = "team.code:count" }, { name = "two", callable = "team.code:fail" }]

[[jobs]]
id = "held"
steps = [{ callable = "team.code:count" }]
"""


@pytest.fixture
def system(tmp_path: Path) -> Iterator[ProjectSystem]:
    """A kernel and a host of the test's own."""
    for opened in open_system(tmp_path / "p", forks_templates=True):
        opened.write(JOBS)
        (opened.project / "nomaflow.toml").write_text('[host]\nname = "team"\n')
        opened.start_kernel()
        opened.start_host()
        eventually(opened.jobs)
        yield opened


def _kernel(system: ProjectSystem) -> Any:
    with system.client() as client:
        return client.get_kernel()


def _refused(system: ProjectSystem, run_id: str = "") -> ClientError:
    """Return the error of a watch from far ahead of the store."""
    with system.client() as client, pytest.raises(ClientError) as refused:
        next(iter(client.watch_run(run_id, after_seq=10_000) if run_id else client.watch_events(after_seq=10_000)))
    return refused.value


def _first(system: ProjectSystem, count: int, gone: list[PrunedView], **query: Any) -> list[EventView]:
    with system.client() as client, closing(client.watch_events(on_pruned=gone.append, **query)) as events:
        return list(islice(events, count))


def test_a_cursor_of_another_store_is_refused(system: ProjectSystem) -> None:
    """Ahead of the store it is CURSOR_AHEAD, for all events and for one run; a deleted store comes back by another name."""
    run_id = system.ask("run", "fine", "--wait")["run_id"]
    before = _kernel(system)
    error = _refused(system)
    assert (error.reason, int(error.metadata["last_event_seq"])) == ("CURSOR_AHEAD", before.last_event_seq)
    assert "store_id" in str(error)
    assert _refused(system, run_id).reason == "CURSOR_AHEAD"
    for part in ("host", "kernel"):
        system.stop(part)
    system.start_kernel()
    again = _kernel(system)
    assert (again.store_id, len(again.store_id)) == (before.store_id, 32)
    assert again.last_event_seq > before.last_event_seq
    system.stop("kernel")
    shutil.rmtree(system.project / ".nomaflow")
    system.start_kernel()
    assert _kernel(system).store_id != before.store_id


def test_a_restored_store_has_a_name_of_its_own(system: ProjectSystem, tmp_path: Path) -> None:
    """A restored store may lack events that were seen before; its numbers continue above them."""
    system.ask("run", "fine", "--wait")
    before = _kernel(system)
    system.ask("backup", str(tmp_path / "b.db"))
    for part in ("host", "kernel"):
        system.stop(part)
    system.ask("restore", str(tmp_path / "b.db"), "--force")
    system.start_kernel()
    after = _kernel(system)
    assert after.store_id != before.store_id
    assert after.last_event_seq > before.last_event_seq


def test_a_watcher_hears_which_events_are_gone(system: ProjectSystem) -> None:
    """A watcher with a cursor below pruned events hears that first, even after a restart; one that saw all does not."""
    first = system.ask("run", "fine", "--wait")["run_id"]
    second = system.ask("run", "fine", "--wait")["run_id"]
    with system.client() as client:
        last_of_first = client.get_run(first).last_event_seq
    assert _kernel(system).pruned_through_seq == 0
    for part in ("host", "kernel"):
        system.stop(part)

    async def prune() -> int:
        store = open_store(f"sqlite:///{system.project}/.nomaflow/kernel.db")
        await store.open()
        try:
            return await store.prune(job_id="fine", keep_runs=1, before_us=None, limit=10)
        finally:
            await store.close()

    assert asyncio.run(prune()) == 1
    system.start_kernel()
    assert _kernel(system).pruned_through_seq == last_of_first
    gone: list[PrunedView] = []
    events = _first(system, 3, gone, after_seq=1, kinds=["run"])
    assert gone == [PrunedView(after_seq=1, through_seq=last_of_first)]
    assert {event.run_id for event in events} == {second}
    gone.clear()
    assert _first(system, 1, gone, after_seq=last_of_first)[0].seq == last_of_first + 1
    assert gone == []


def test_the_end_of_a_run_says_what_alerts_want_to_know(system: ProjectSystem) -> None:
    """Host, preset, slot, start, tries and the failed step are in run.finished, whatever way the run ended."""
    system.write(JOBS.replace(", enabled = false", ""))
    system.ask("reload")
    system.ask("run", "fine", "--wait")
    system.ask("run", "failing", "--wait", code=1)
    system.ask("pause", "held")
    waiting = system.ask("run", "held")["run_id"]
    system.ask("cancel", waiting, "--wait")
    ends: dict[str, EventView] = {}
    fired = None
    with system.client() as client, closing(client.watch_events(from_start=True, kinds=["run.finished"])) as events:
        for event in events:
            if event.data["preset"]:
                fired = event
            else:
                ends[event.job_id] = event
            if fired is not None and len(ends) == 3:
                break
        fine, failing, canceled = (ends[name].data for name in ("fine", "failing", "held"))
        started = client.get_run(ends["fine"].run_id).started_at
    assert (fine["host"], fine["preset"], fine["slot_us"], fine["attempts"]) == ("team", "", None, 2)
    assert fine["started_us"] == round(started.timestamp() * 1_000_000)
    assert (fine["failed_step"], failing["failed_step"], failing["attempts"]) == ("", "two", 3)
    assert (canceled["host"], canceled["started_us"], canceled["attempts"]) == ("team", None, 0)
    assert (fired.data["preset"], fired.data["slot_us"] % 1_000_000) == ("each-second", 0)


def test_a_kernel_s_start_is_in_the_history(system: ProjectSystem) -> None:
    """Each start tells version and epoch, and when the kernel before wrote its last event."""
    system.ask("run", "fine", "--wait")
    for part in ("host", "kernel"):
        system.kill(part)
    system.start_kernel()
    with system.client() as client, closing(client.watch_events(from_start=True)) as events:
        everything = list(islice(events, client.get_kernel().last_event_seq))
    told = [event for event in everything if event.kind.startswith("kernel.")]
    assert [event.kind for event in told] == ["kernel.started", "kernel.leading"] * 2
    assert [event.data["epoch"] for event in told] == [1, 1, 2, 2]
    assert (told[1].data["previous_end_us"], bool(told[1].data["version"])) == (None, True)
    before = everything[everything.index(told[2]) - 1]
    assert told[3].data["previous_end_us"] == round(before.at.timestamp() * 1_000_000)
