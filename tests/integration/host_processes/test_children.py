"""Child processes of steps in a shared worker: they end with their step, and no other step notices."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import Host, StartHost, is_alive, pids_below, shared

from nomaflow_api.v1.letter_words import FinishedState
from nomaflow_api.v1.letters import CancelOrder
from nomaflow_host.reaper.proc import ProcessIdentity, ticks_now
from waiting import eventually

HOST_SETTINGS = {"kill_seconds": 10.0}
"""A busy machine must not cost a shared worker: the host kills it if a step's children are not dead by then."""
SCRIPTS = ["ends_at_sigterm", "has_a_child", "ignores_sigterm", "has_a_child_that_ignores_sigterm"]


async def neighbour_of(host: Host, marker: Path) -> tuple[str, int]:
    """Start a step that runs until *marker* exists; return its key and the pid of its worker."""
    key = host.run("polite:waits_for", {"marker": str(marker)})
    return key, await host.started_in(Path(f"{marker}.running"))


async def assert_runs_on(host: Host, neighbour: str, marker: Path) -> None:
    """Assert that a neighbour is not touched: it ends once *marker* exists, with its result."""
    assert neighbour not in host.sink.ends
    marker.touch()
    end = await host.sink.end_of(neighbour)
    assert (end.state, end.rows_affected, end.warnings) == (FinishedState.SUCCEEDED, 11, ())


@shared
@pytest.mark.parametrize(
    "name", ["forgets_its_child", "waits_for_its_child", "runs_its_child_in_a_thread", "calls_system_in_a_thread"]
)
async def test_a_cancel_ends_child_processes_without_their_worker(host: Host, marker: Path, name: str) -> None:
    """A child that runs on after the cancel of its step is dead before CANCELED is reported; neighbours run on."""
    go = marker.with_name("go")
    neighbour, worker = await neighbour_of(host, go)
    for script in SCRIPTS:
        mine = marker.with_name(script)
        key = host.run(f"hostile.children:{name}", {"marker": str(mine), "script": script})
        child = await host.started_in(mine)
        host.supervisor.cancel(CancelOrder(attempt_key=key, reason_code="canceled_by_user", by="ann", why="enough"))
        assert (await host.sink.end_of(key)).state is FinishedState.CANCELED, script
        assert (is_alive(child), is_alive(worker)) == (False, True), script
    await assert_runs_on(host, neighbour, go)


@shared
@pytest.mark.parametrize("script", SCRIPTS)
async def test_a_return_ends_child_processes_without_their_worker(host: Host, marker: Path, script: str) -> None:
    """A child that outlives its step is dead before SUCCEEDED is reported, with a note; neighbours run on."""
    go = marker.with_name("go")
    neighbour, worker = await neighbour_of(host, go)
    end = await host.result("hostile.children:returns_before_its_child", {"marker": str(marker), "script": script})
    assert (end.state, end.rows_affected) == (FinishedState.SUCCEEDED, worker)
    assert end.warnings == ("it left 1 process running when it returned; the host has stopped them",)
    assert not is_alive(int(marker.read_text()))
    await assert_runs_on(host, neighbour, go)


@shared
@pytest.mark.parametrize("how", ["posix_spawn", "spawn", "forkserver"])
async def test_a_process_started_without_subprocess_ends_with_its_step(host: Host, marker: Path, how: str) -> None:
    """A step's process counts as left by it, whatever started it; neighbours run on."""
    go = marker.with_name("go")
    neighbour, worker = await neighbour_of(host, go)
    end = await host.result("hostile.children:leaves_a_process", {"marker": str(marker), "how": how})
    assert (end.state, end.rows_affected) == (FinishedState.SUCCEEDED, worker)
    assert end.warnings == ("it left 1 process running when it returned; the host has stopped them",)
    assert not is_alive(int(marker.read_text()))
    await assert_runs_on(host, neighbour, go)


@pytest.mark.parametrize("kept", [True, False])
async def test_a_pool_ends_with_its_step(start_host: StartHost, marker: Path, kept: bool) -> None:
    """A pool that replaces its dead processes starts none once they are killed; neighbours run on."""
    host = await start_host(shared_workers=1, **HOST_SETTINGS)
    go = marker.with_name("go")
    neighbour, worker = await neighbour_of(host, go)
    end = await host.result("hostile.children:keeps_a_pool", {"kept": kept})
    assert (end.state, end.rows_affected) == (FinishedState.SUCCEEDED, worker)
    assert [pid for pid in pids_below(worker) if is_alive(pid)] == []
    await assert_runs_on(host, neighbour, go)


async def test_processes_started_in_several_threads_at_once_end_with_their_step(
    start_host: StartHost, marker: Path
) -> None:
    """None is forgotten if another thread starts one at the same moment."""
    host = await start_host(shared_workers=1, term_seconds=20, **HOST_SETTINGS)
    go = marker.with_name("go")
    neighbour, worker = await neighbour_of(host, go)
    end = await host.result("hostile.children:starts_many", {"threads": 8, "each": 10})
    assert (end.state, end.rows_affected) == (FinishedState.SUCCEEDED, worker)
    assert end.warnings == ("it left 80 processes running when it returned; the host has stopped them",)
    assert [pid for pid in pids_below(worker) if is_alive(pid)] == []
    await assert_runs_on(host, neighbour, go)


@shared
@pytest.mark.parametrize("name", ["leaves_an_orphan", "leaves_an_orphan_of_c_code"])
async def test_an_orphan_counts_for_no_step_that_has_started_no_process(host: Host, marker: Path, name: str) -> None:
    """A neighbour returns at once, without a note, and the orphan lives until its own step returns."""
    go, end_it = marker.with_name("go"), marker.with_name("end")
    neighbour, _ = await neighbour_of(host, go)
    key = host.run(f"hostile.children:{name}", {"marker": str(marker), "go": str(end_it)})
    orphan = await host.started_in(marker)
    await assert_runs_on(host, neighbour, go)
    assert is_alive(orphan)
    other, _ = await neighbour_of(host, marker.with_name("other"))
    end_it.touch()
    end = await host.sink.end_of(key)
    assert end.warnings == ("it left 1 process running when it returned; the host has stopped them",)
    assert not is_alive(orphan)
    await assert_runs_on(host, other, marker.with_name("other"))


async def test_dead_orphans_are_reaped_beside_other_steps(start_host: StartHost, marker: Path) -> None:
    """Zombies would stay, and be looked at when a step ends, as long as the worker always has some step."""
    host = await start_host(shared_workers=1, **HOST_SETTINGS)
    go = marker.with_name("go")
    neighbour, worker = await neighbour_of(host, go)
    end = await host.result("hostile.children:leaves_short_orphans", {"count": 5})
    assert (end.state, end.rows_affected) == (FinishedState.SUCCEEDED, worker)
    assert pids_below(worker) == []
    await assert_runs_on(host, neighbour, go)


@shared
async def test_a_helper_that_a_neighbour_s_thread_has_from_c_code_is_not_ended(host: Host, marker: Path) -> None:
    """Steps take turns in the threads of the executor: a child of such a thread need not be that of its present one."""
    go, mine = marker.with_name("go"), marker.with_name("mine")
    neighbour = host.run("hostile.children:has_a_helper_of_c_code", {"marker": str(marker), "go": str(go)})
    helper = ProcessIdentity.of(await host.started_in(marker))
    await eventually(lambda: ticks_now() - 1 > helper.start_ticks)
    key = host.run("hostile.children:calls_system_in_a_thread", {"marker": str(mine), "script": "ends_at_sigterm"})
    child = await host.started_in(mine)
    host.supervisor.cancel(CancelOrder(attempt_key=key, reason_code="canceled_by_user", by="ann", why="enough"))
    assert (await host.sink.end_of(key)).state is FinishedState.CANCELED
    assert not is_alive(child)
    go.touch()
    end = await host.sink.end_of(neighbour)
    assert (end.state, end.extras_json) == (FinishedState.SUCCEEDED, b'{"lives":true}')
